"""Checks of what models are called with."""

from __future__ import annotations

from torch import Tensor

from formers.errors import InputError


def given(choice: bool | None, default: bool) -> bool:
    """What was passed, or the default."""
    return default if choice is None else choice


def check_tokens(input_ids: Tensor | None, inputs_embeds: Tensor | None, width: int) -> Tensor:
    """The ids (B, S), or the embeddings (B, S, `width`), whichever is given; InputError for anything else."""
    if (input_ids is None) == (inputs_embeds is None):
        got = "both" if input_ids is not None else "neither"
        raise InputError(f"Got {got} of input_ids and inputs_embeds.", "Pass exactly one of them.")
    if input_ids is not None:
        _check("input_ids", input_ids, "(batch, length) of whole numbers", 2, floating=False)
        return input_ids
    assert inputs_embeds is not None
    wanted = f"(batch, length, {width}) of floating-point numbers"
    _check("inputs_embeds", inputs_embeds, wanted, 3, floating=True)
    if inputs_embeds.shape[2] != width:
        raise InputError(f"inputs_embeds has the shape {tuple(inputs_embeds.shape)}; {wanted} is expected.", _EMBEDS)
    return inputs_embeds


_EMBEDS = "Make them with model.get_input_embeddings()(input_ids)."


def _check(name: str, tokens: Tensor, wanted: str, rank: int, floating: bool) -> None:
    if not isinstance(tokens, Tensor):
        raise InputError(
            f"{name} is a {type(tokens).__name__}; a tensor {wanted} is expected.",
            'Tokenize with return_tensors="pt", and pass what comes back as model(**encoding).',
        )
    if tokens.dim() != rank or 0 in tokens.shape or tokens.is_floating_point() != floating:
        raise InputError(
            f"{name} has the shape {tuple(tokens.shape)}, type {tokens.dtype}; a non-empty {wanted} is expected.",
            _EMBEDS if floating else 'Tokenize a list of texts with return_tensors="pt", or add the batch dimension.',
        )


def fit(name: str, values: Tensor, batch: int, length: int) -> Tensor:
    """Values (B, S), (1, S) or (S) as (B, S)."""
    if values.shape[-1] != length or values.dim() > 2 or (values.dim() == 2 and values.shape[0] not in (1, batch)):
        raise misfit(name, values, batch, length)
    return values.expand(batch, length)


def misfit(name: str, values: Tensor, batch: int, length: int) -> InputError:
    """The error for values that are not (B, S)."""
    return InputError(
        f"{name} has the shape {tuple(values.shape)}; the input has {(batch, length)}.",
        f"Pass {name} as the tokenizer returned it with these ids, or leave it out.",
    )
