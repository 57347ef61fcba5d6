"""What an encoder–decoder generates from: the input of its encoder, and the prompts of its decoder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from formers.errors import InputError
from formers.generation.config import GenerationConfig
from formers.generation.rows import Prompts, padded, read_prompts
from formers.outputs import BaseModelOutput

# Dimensions of what encoders read: ids (B, S), embeddings (B, S, W), features (B, bins, frames).
_DIMENSIONS = {"input_ids": 2, "inputs_embeds": 3, "input_features": 3}


@dataclass
class Source:
    """What the encoder reads, by its name, with its mask; `outputs`, if it has been read already.

    `ids` (B, S) are there for texts only.
    """

    inputs: dict[str, Tensor]
    rows: int
    mask: Tensor | None = None
    outputs: Any = None

    @property
    def ids(self) -> Tensor | None:
        """The ids (B, S) with their padding, of texts."""
        return self.inputs.get("input_ids")

    def row(self, index: int) -> list[int]:
        """A row's own ids, without padding, or numbers that stand for its content."""
        if self.ids is not None:
            kept = self.ids[index] if self.mask is None else self.ids[index][self.mask[index].bool()]
            listed: list[int] = kept.tolist()
            return listed
        values = self.outputs.last_hidden_state if self.outputs is not None else next(iter(self.inputs.values()))
        content = values[index].detach().float().cpu().contiguous().numpy().tobytes()
        return list(hashlib.blake2b(content, digest_size=16).digest())


class Conditioned:
    """An encoder–decoder as generation sees it: its decoder, which knows its sources.

    The encoder runs within the first call; from then on the cache holds what the decoder needs of it.
    """

    def __init__(self, model: Any, source: Source) -> None:
        self.model, self.source = model, source
        self.device: torch.device = model.device
        # What the encoder returned, one row a source; `_rows` are the sources of the rows that are decoded.
        self.encoded: Any = source.outputs
        self._rows: list[int] | None = None
        self._read = False

    def new_cache(self, rows: int, capacity: int | None = None) -> Any:
        """An empty cache of the model."""
        return self.model.new_cache(rows, capacity)

    def __call__(
        self, ids: Tensor, attention_mask: Tensor | None = None, past_key_values: Any = None, **arguments: Any
    ) -> Any:
        """The model's output for decoder ids (B, T)."""
        if self._read and past_key_values is not None:
            given: dict[str, Any] = {}
        elif self.encoded is None:
            given = {**self.source.inputs, "attention_mask": self.source.mask}
        else:
            given = {"encoder_outputs": self._encoded(), "attention_mask": _chosen(self.source.mask, self._rows)}
        output = self.model(
            decoder_input_ids=ids,
            decoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            **given,
            **arguments,
        )
        self._read = True
        if self.encoded is None:
            self.encoded = BaseModelOutput(
                output.encoder_last_hidden_state, output.encoder_hidden_states, output.encoder_attentions
            )
        return output

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, where no cache says which are left."""
        before = self._rows
        self._rows = list(rows) if before is None else [before[row] for row in rows]

    def _encoded(self) -> Any:
        if self._rows is None:
            return self.encoded
        return BaseModelOutput(_chosen(self.encoded.last_hidden_state, self._rows))


def _chosen(values: Tensor | None, rows: list[int] | None) -> Tensor | None:
    return values if values is None or rows is None else values[rows]


def is_encoder_decoder(model: Any) -> bool:
    """Whether a model has an encoder of its own."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def read_source(model: Any, inputs: Mapping[str, Any], mask: Tensor | None, outputs: Any, pad: int | None) -> Source:
    """The source of a call from what was given of `input_ids`, `inputs_embeds` and `input_features`, or from `outputs`.

    Ids may be lists of unequal lengths. Without a mask everything counts, as in the reference.
    """
    given = {name: value for name, value in inputs.items() if value is not None}
    device = torch.device(model.device)
    if outputs is not None:
        outputs = _outputs(outputs, device, getattr(getattr(model, "spec", None), "cross_width", None))
    if len(given) > 1:
        raise InputError(f"Both {' and '.join(given)} were given.", "Give one of them: the encoder reads one.")
    if not given and outputs is None:
        name = getattr(model, "main_input_name", "input_ids")
        raise InputError("The encoder was given nothing to read.", f"Pass {name}=, or encoder_outputs=.")
    tensors: dict[str, Tensor] = {}
    for name, value in given.items():
        if name == "input_ids" and not isinstance(value, Tensor):
            prompts = read_prompts(value, mask, pad, set(), device)
            if prompts.ragged:
                value, mask = _ragged(prompts.rows, 0 if pad is None else pad)
            else:
                value = prompts.ids
        tensors[name] = _shaped(name, value).to(device)
    first = outputs.last_hidden_state if outputs is not None else next(iter(tensors.values()))
    mask = None if mask is None else _checked(mask, first, "input_features" in tensors).to(device)
    source = Source(tensors, len(first), mask, outputs)
    if outputs is not None and source.ids is not None and source.ids.shape[0] != source.rows:
        raise InputError(
            f"encoder_outputs have {source.rows} rows, input_ids {len(source.ids)}.", "Pass those of the same texts."
        )
    return source


def decoder_prompts(
    model: Any, config: GenerationConfig, source: Source, ids: Any, mask: Tensor | None, pad: int | None
) -> Prompts:
    """The decoder's prompts: those given, begun with the start token where none has it, or the start token alone."""
    device = torch.device(model.device)
    if ids is None:
        if mask is not None:
            raise InputError("decoder_attention_mask was given without decoder_input_ids.", "Pass both, or neither.")
        starts = _starts(config, source.rows)
        return Prompts(torch.tensor(starts, device=device)[:, None], [[start] for start in starts], device=device)
    prompts = read_prompts(ids, mask, None, set(), device, "decoder_input_ids")
    if len(prompts.rows) != source.rows:
        raise InputError(
            f"There are {len(prompts.rows)} rows of decoder_input_ids for {source.rows} sources.",
            "Give one prompt of the decoder for each source.",
        )
    # Some models' prompts begin in several ways, and are taken as they are.
    if getattr(model, "keeps_decoder_prompt", False):
        return prompts
    starts = _starts(config, source.rows)
    firsts = [row[0] for row in prompts.rows] if prompts.ragged else prompts.ids[:, 0].tolist()
    if any(first == start for first, start in zip(firsts, starts, strict=True)):
        return prompts
    rows = [[start, *row] for start, row in zip(starts, prompts.rows, strict=True)]
    if prompts.ragged:
        table = padded(rows, 0 if pad is None else pad).to(device)
    else:
        table = torch.cat((torch.tensor(starts, device=device)[:, None], prompts.ids), 1)
    return Prompts(table, rows, prompts.ragged, device)


def _starts(config: GenerationConfig, rows: int) -> list[int]:
    start = config.bos_token_id if config.decoder_start_token_id is None else config.decoder_start_token_id
    if start is None:
        raise InputError(
            "The model does not say what its decoder begins with.",
            "Pass decoder_start_token_id=, or set it in the model's generation_config.",
        )
    starts = [start] * rows if isinstance(start, int) else [int(one) for one in start]
    if len(starts) != rows:
        raise InputError(
            f"decoder_start_token_id has {len(starts)} tokens for {rows} sources.", "Give one, or one for each source."
        )
    return starts


def _ragged(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor | None]:
    table = padded(rows, pad, left=False)
    lengths = torch.tensor([len(row) for row in rows])
    even = int(lengths.min()) == table.shape[1]
    return table, None if even else (torch.arange(table.shape[1]) < lengths[:, None]).long()


def _outputs(outputs: Any, device: torch.device, width: int | None) -> Any:
    """What an encoder returned, of `width`, as an output object: tuples and mappings are taken too."""
    if isinstance(outputs, Tensor):
        raise InputError("encoder_outputs is a tensor.", "Pass what model.get_encoder()(...) returned.")
    if isinstance(outputs, Mapping) or hasattr(outputs, "keys"):
        found = [outputs.get(name) for name in ("last_hidden_state", "hidden_states", "attentions")]
    else:
        found = [*outputs, None, None][:3]
    states = found[0]
    if not isinstance(states, Tensor) or states.dim() != 3:
        raise InputError(
            f"encoder_outputs hold no last_hidden_state (B, S, W) but a {type(states).__name__}.",
            "Pass what model.get_encoder()(...) returned.",
        )
    if width is not None and states.shape[2] != width:
        raise InputError(
            f"encoder_outputs are {states.shape[2]} wide, and the decoder reads states of {width}.",
            "Pass what this model's own encoder returned.",
        )
    return BaseModelOutput(states.to(device), found[1], found[2])


def _shaped(name: str, given: Any) -> Tensor:
    if not isinstance(given, Tensor):
        raise InputError(f"{name} is a {type(given).__name__}.", "Pass a tensor.")
    value: Tensor = given[None] if name == "input_ids" and given.dim() == 1 else given
    whole = not value.is_floating_point()
    if value.dim() != _DIMENSIONS[name] or whole != (name == "input_ids"):
        kind = "whole" if name == "input_ids" else "floating-point"
        raise InputError(
            f"{name} is of shape {tuple(value.shape)} and type {value.dtype}.",
            f"Pass {kind} numbers in {_DIMENSIONS[name]} dimensions.",
        )
    if not value.numel():
        raise InputError(f"{name} is empty: its shape is {tuple(value.shape)}.", "Pass at least one token a row.")
    return value


def _checked(given: Any, values: Tensor, features: bool) -> Tensor:
    """The mask, if it fits (B, S); that of features is left to the model."""
    mask = torch.as_tensor(given)
    mask = mask[None] if mask.dim() == 1 else mask
    if features:
        return mask
    if mask.shape != values.shape[:2]:
        raise InputError(
            f"attention_mask is of shape {tuple(mask.shape)}, what the encoder reads of {tuple(values.shape[:2])}.",
            "Pass the mask that the tokenizer made with these ids.",
        )
    empty = [index for index, count in enumerate(mask.sum(1).tolist()) if not count]
    if empty:
        raise InputError(f"Source {empty[0]} has no tokens.", "Give each at least the end-of-sequence token.")
    return mask
