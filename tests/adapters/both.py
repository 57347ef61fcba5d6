"""The same adapter here and in peft."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

import formers
from formers.registry import FAMILIES
from tests.parity.pairs import ENCODERS, Batch, Pair, batch, new_pair
from tests.parity.pairs import scramble as randomize
from tests.parity.tiny_decoders import TINY_DECODERS


def scramble(model: nn.Module) -> Any:
    """Random values for all that an adapter trains."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def models(model_type: str, head: str) -> Pair:
    """A new pair: the reference's model, and ours with its weights."""
    if model_type in ENCODERS:
        return new_pair(model_type, head)
    family = FAMILIES[model_type]
    values = {"pad_token_id": 0, **TINY_DECODERS[model_type], "num_labels": 3}
    config = getattr(transformers, family.prefix + "Config")(**values)
    config._attn_implementation = config._experts_implementation = "eager"
    reference = getattr(transformers, family.class_name(head))(config)
    randomize(reference, 0)
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        return Pair(reference.eval(), getattr(formers, family.class_name(head)).from_pretrained(folder), head)


def texts(pair: Pair, model_type: str) -> Batch:
    """Ids for a pair: padded, except for decoders, which count positions otherwise."""
    return batch(pair, "right" if model_type in ENCODERS else None)


def close(ours: Tensor, reference: Tensor) -> None:
    """Assert the same but for rounding, of which adapters in every layer add some."""
    torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-4)


def theirs(pair: Pair, **config: Any) -> Any:
    """An adapter of peft on the reference's model."""
    return scramble(peft.get_peft_model(pair.reference, peft.LoraConfig(**config)))


def outputs(model: Any, given: Batch) -> Tensor:
    """What a model says, at real tokens where it says something of each."""
    with torch.no_grad():
        out: Tensor = model(input_ids=given.ids, attention_mask=given.mask)[0]
    return given.real(out) if out.shape[:2] == given.ids.shape else out


def tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter's folder."""
    return dict(load_file(folder / "adapter_model.safetensors"))


def loads_in_peft(folder: Path, model_type: str, head: str, expected: Tensor) -> None:
    """Assert that peft, on a fresh model of the reference, says the same with the adapter in a folder."""
    pair = models(model_type, head)
    close(outputs(peft.PeftModel.from_pretrained(pair.reference, folder).eval(), texts(pair, model_type)), expected)
