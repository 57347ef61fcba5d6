"""Tiny random models, here and in the reference implementation, with inputs for them and ways to compare."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from inspect import signature
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import formers
from formers.registry import FAMILIES
from tests.parity.tiny import TINY

RTOL, ATOL = 1e-4, 1e-5
# Heads that need two labels in the reference, or that have other inputs than one row of tokens a sequence.
TWO_LABELS = ("ForQuestionAnswering", "ForPreTraining")
CAUSAL = ("ForCausalLM", "LMHeadModel")
TYPED = tuple(model_type for model_type, values in TINY.items() if values.get("type_vocab_size"))


@dataclass(frozen=True)
class Pair:
    """One model twice, with the same weights, in evaluation mode."""

    reference: Any
    ours: Any
    head: str


# Decoders have tests of their own: their bare model gives a cache, and positions come from the mask.
ENCODERS = tuple(name for name, family in FAMILIES.items() if "ForMaskedLM" in family.heads)
# Encoder–decoders whose inputs are texts.
SEQ2SEQ = tuple(
    name
    for name, family in FAMILIES.items()
    if {"ForConditionalGeneration", "MTModel"} & set(family.heads) and name != "whisper"
)
DECODERS = tuple(name for name, family in FAMILIES.items() if {"ForCausalLM", "LMHeadModel"} & set(family.heads[1:2]))


def heads(*only: str, families: tuple[str, ...] = ENCODERS) -> list[Any]:
    """Every (model type, head) of the encoders, or those with one of the heads `only`, as pytest parameters."""
    return [
        pytest.param(model_type, head, id=FAMILIES[model_type].prefix + head, marks=_built(model_type))
        for model_type in families
        for head in FAMILIES[model_type].heads
        if not only or head in only
    ]


def vocabulary_heads() -> list[Any]:
    """Every model that gives logits for the vocabulary, as pytest parameters."""
    both = heads("ForPreTraining", families=("albert", "bert"))
    return [*heads("ForMaskedLM", *CAUSAL), *both]


def families() -> list[Any]:
    """Every model type of the encoders, as pytest parameters."""
    return [pytest.param(model_type, marks=_built(model_type)) for model_type in ENCODERS]


def _built(model_type: str) -> Any:
    module = FAMILIES[model_type].module
    return pytest.mark.skipif(
        find_spec(f"formers.models.families.{module}") is None, reason=f"families/{module}.py does not exist yet"
    )


def class_name(model_type: str, head: str) -> str:
    return FAMILIES[model_type].prefix + head


def config_values(model_type: str, head: str, **values: Any) -> dict[str, Any]:
    """The tiny configuration that a head is tested with."""
    defaults = {"num_labels": 2 if head in TWO_LABELS else 3, "is_decoder": head in CAUSAL}
    if not defaults["is_decoder"]:
        del defaults["is_decoder"]
    return {**TINY[model_type], **defaults, **values}


def reference(model_type: str, head: str, *, seed: int = 0, attention: str = "eager", **values: Any) -> Any:
    """The reference model with random weights in which no norm is one and no bias zero."""
    prefix = FAMILIES[model_type].prefix
    config = getattr(transformers, prefix + "Config")(**config_values(model_type, head, **values))
    config._attn_implementation = attention
    model = getattr(transformers, prefix + head)(config)
    scramble(model, seed)
    return model.eval()


def ours(model_type: str, head: str, state: dict[str, Tensor] | None = None, **values: Any) -> Any:
    """Our model, with the weights of a state dict of the reference."""
    prefix = FAMILIES[model_type].prefix
    config = getattr(formers, prefix + "Config")(**config_values(model_type, head, **values))
    model = getattr(formers, prefix + head)(config)
    if state is not None:
        model.load_state_dict(state)
    return model.eval()


def new_pair(model_type: str, head: str, *, seed: int = 0, attention: str = "eager", **values: Any) -> Pair:
    """A pair of its own, for tests that change the models."""
    first = reference(model_type, head, seed=seed, attention=attention, **values)
    return Pair(first, ours(model_type, head, first.state_dict(), **values), head)


@cache
def pair(model_type: str, head: str) -> Pair:
    """The pair that tests share; they leave it as they found it."""
    return new_pair(model_type, head)


def scramble(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.25
            parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)


# -- inputs ------------------------------------------------------------------------------------------------------------

LENGTHS = (11, 7, 4, 7)


@dataclass(frozen=True)
class Batch:
    """Ids (B, S), or (B, choices, S), with the mask of their padding."""

    ids: Tensor
    mask: Tensor

    def real(self, values: Tensor) -> Tensor:
        """What (B, S, …) values say about real tokens."""
        return values[self.mask.flatten(0, -2).bool()]


def batch(pair: Pair, side: str | None = "right", seed: int = 1) -> Batch:
    """Random ids, padded on one side or not at all."""
    generator = torch.Generator().manual_seed(seed)
    spec = pair.ours.spec
    pad = spec.pad_token_id or 0
    ids = torch.randint(5, spec.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    mask = torch.ones_like(ids)
    if side is not None:
        place = torch.arange(max(LENGTHS))
        if side == "left":
            place = place.flip(0)
        mask = (place < torch.tensor(LENGTHS)[:, None]).long()
        ids = torch.where(mask == 1, ids, pad)
    if pair.head == "ForMultipleChoice":
        ids, mask = ids.unflatten(0, (2, 2)), mask.unflatten(0, (2, 2))
    return Batch(ids, mask)


def labels(pair: Pair, given: Batch, seed: int = 2) -> dict[str, Tensor]:
    """The labels of a head, by argument. Padding has some too, except where it comes first and sees nothing."""
    generator = torch.Generator().manual_seed(seed)

    def draw(limit: int, *shape: int) -> Tensor:
        return torch.randint(0, limit, shape, generator=generator)

    rows, length, vocabulary = given.ids.shape[0], given.ids.shape[-1], pair.ours.spec.vocab_size
    tokens = draw(vocabulary, rows, length)
    tokens[:, 1::3] = -100
    if pair.head in CAUSAL and not given.mask[:, 0].all():
        tokens[given.mask == 0] = -100
    classes = draw(3, rows, length)
    classes[:, ::4] = -100
    accepted = signature(pair.ours.forward).parameters
    match pair.head:
        case "Model":
            return {}
        case "ForMaskedLM" | "ForCausalLM" | "LMHeadModel":
            return {"labels": tokens}
        case "ForSequenceClassification":
            return {"labels": draw(3, rows)}
        case "ForMultipleChoice" | "ForNextSentencePrediction":
            return {"labels": draw(2, rows)}
        case "ForTokenClassification":
            return {"labels": classes}
        case "ForQuestionAnswering":
            return {"start_positions": draw(length, rows), "end_positions": draw(length + 3, rows)}
        case "ForPreTraining" if "sentence_order_label" in accepted:
            return {"labels": tokens, "sentence_order_label": draw(2, rows)}
        case "ForPreTraining" if "next_sentence_label" in accepted:
            return {"labels": tokens, "next_sentence_label": draw(2, rows)}
        case "ForPreTraining":
            return {"labels": draw(2, rows, length)}
    raise NotImplementedError(f"labels of {pair.head}")


# -- comparing ---------------------------------------------------------------------------------------------------------


def close(ours: Tensor, reference: Tensor, **kwargs: Any) -> None:
    torch.testing.assert_close(ours, reference, **{"rtol": RTOL, "atol": ATOL, **kwargs})


def same(ours: Any, reference: Any, given: Batch | None = None) -> None:
    """Compare two outputs value by value, at real tokens where a batch is given."""
    # The reference lists cross-attentions that it does not have.
    assert list(ours.keys()) == [name for name, value in reference.items() if value != ()]
    for name in list(ours):
        values = zip(_several(ours[name]), _several(reference[name]), strict=True)
        for index, (own, other) in enumerate(values):
            assert own.shape == other.shape, name
            if given is not None and own.shape[1:2] == given.ids.shape[-1:]:
                own, other = given.real(own), given.real(other)
            elif given is not None and own.dim() == 4:
                own, other = given.real(own.transpose(1, 2)), given.real(other.transpose(1, 2))
            close(own, other, msg=lambda text, name=name, index=index: f"{name}[{index}]: {text}")


def _several(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
