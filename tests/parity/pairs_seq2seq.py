"""Pairs of encoder–decoders: the reference's, and ours with the same weights, read from its files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

import formers
from formers.registry import FAMILIES
from tests.parity import pairs
from tests.parity.pairs import SEQ2SEQ
from tests.parity.tiny_seq2seq import TINY_SEQ2SEQ, VARIANTS

CASES = [*SEQ2SEQ, *VARIANTS]
LENGTHS = (11, 7, 4, 7)


def close(own: Tensor, other: Tensor, **kwargs: Any) -> None:
    # Scores that nothing scales down are large here.
    pairs.close(own, other, **{"atol": 1e-4, **kwargs})


@dataclass(frozen=True)
class Pair:
    """One model twice, with the same weights, and the files that the reference wrote."""

    reference: Any
    ours: Any
    state: dict[str, Tensor]


def writer(model_type: str) -> str:
    return FAMILIES[model_type].heads[1]


@cache
def pair(case: str, head: str = "") -> Pair:
    """The reference's model, and ours read from its files; tests leave them as they found them."""
    return new_pair(case, head)


def new_pair(case: str, head: str = "") -> Pair:
    model_type, values = VARIANTS.get(case, (case, {}))
    values = {**TINY_SEQ2SEQ[model_type], **values}
    family, head = FAMILIES[model_type], head or writer(model_type)
    labels = {"num_labels": 2 if head == "ForQuestionAnswering" else 3}
    config = getattr(transformers, family.prefix + "Config")(**values, **labels)
    config._attn_implementation = "eager"
    first = getattr(transformers, family.class_name(head))(config)
    scramble(first)
    with tempfile.TemporaryDirectory() as folder:
        first.save_pretrained(folder)
        state = load_file(Path(folder) / "model.safetensors")
        own = getattr(formers, family.prefix + "Config")(**values, **labels)
        cls = getattr(formers, family.class_name(head))
        second, info = cls.from_pretrained(folder, output_loading_info=True)
    assert {name: found for name, found in info.items() if found} == {}
    assert second.definition.spec(own).head == second.spec.head
    assert own.hidden_size == second.config.hidden_size
    return Pair(first.eval(), second, state)


def scramble(model: nn.Module) -> None:
    """Random weights in which no norm is one and no bias zero; fixed positions stay."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        buffers = [(name, each) for name, each in model.named_buffers() if name.endswith("final_logits_bias")]
        for name, each in (*trained, *buffers):
            noise = torch.randn(each.shape, generator=generator) * 0.25
            each.copy_(noise + 1 if each.dim() == 1 and name.endswith("weight") else noise)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(4, 61, shape, generator=torch.Generator().manual_seed(seed))


def padded(models: Pair, side: str | None, lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Ids whose last one ends the sequence, and their mask."""
    place = torch.arange(max(lengths))
    mask = torch.ones(len(lengths), max(lengths), dtype=torch.long)
    if side is not None:
        mask = ((place.flip(0) if side == "left" else place) < torch.tensor(lengths)[:, None]).long()
    config = models.ours.config
    ids = draw(*mask.shape, seed=seed)
    last = [int(row.nonzero().max()) for row in mask]
    ids[torch.arange(len(lengths)), last] = config.eos_token_id
    return torch.where(mask == 1, ids, config.pad_token_id), mask


def gradients(model: Any) -> Tensor:
    """The sum of all squared gradients, and of those of the embeddings."""
    unique = {id(each): each for each in model.parameters() if each.grad is not None}
    total = torch.stack([each.grad.double().square().sum() for each in unique.values()]).sum()
    tokens = model.get_input_embeddings().weight.grad.double().square().sum()
    model.zero_grad(set_to_none=True)
    return torch.stack((total, tokens))
