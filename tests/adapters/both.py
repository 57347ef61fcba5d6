"""The same adapter here and in peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.parity.pairs import Batch, Pair, batch, new_pair


def scramble(model: nn.Module) -> Any:
    """Random values for all that an adapter trains."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


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
    pair = new_pair(model_type, head)
    close(outputs(peft.PeftModel.from_pretrained(pair.reference, folder).eval(), batch(pair)), expected)
