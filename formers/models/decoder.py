"""The decoder skeleton: embeddings, causal blocks, and the road between padded batches, flat tokens and the cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from formers.configuration import PreTrainedConfig
from formers.errors import InputError, UnsupportedError
from formers.layers.attention import eager, sdpa
from formers.layers.cache import Cache
from formers.layers.causal import CausalBias, CausalBlock, CausalContext
from formers.layers.cross import CrossMemory, Reading
from formers.layers.dropout import dropout
from formers.layers.embeddings import Embeddings
from formers.layers.layout import Layout, plan
from formers.layers.norms import make_norm
from formers.layers.program import Program
from formers.layers.rotary import Dynamic, LongRope, Rotary
from formers.layers.stepped import Stepped
from formers.models.base import PreTrainedModel
from formers.models.inputs import check_tokens, fit, given, misfit
from formers.outputs import BaseModelOutputWithPast


@dataclass
class Decoded:
    """Hidden states of one forward, flat (T, W), with the layout that takes them back to (B, S, W)."""

    flat: Tensor
    layout: Layout
    # How many tokens of each row count.
    counts: list[int]
    cache: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None

    def padded(self) -> Tensor:
        """The last hidden states (B, S, W)."""
        return self.layout.scatter(self.flat)

    def places(self) -> list[Tensor]:
        """Where each row's tokens that count lie in `flat`."""
        layout = self.layout
        if layout.packed:
            raise InputError(
                "The position_ids restart within a row, so that it holds several sequences; this answers once a row.",
                "Pass one sequence a row, or leave position_ids out.",
            )
        mask = layout.runs[0].mask if layout.runs else None
        every = torch.arange(self.flat.shape[0], device=self.flat.device)
        if mask is not None:
            every = every[mask.flatten()]
        order = list(layout.order())
        pieces = every.split([self.counts[row] for row in order])
        found: list[Tensor] = [every] * len(order)
        for row, piece in zip(order, pieces, strict=True):
            found[row] = piece
        return found

    def last(self, count: int) -> Tensor:
        """The hidden states (B, count, W) of each row's last tokens that count; zero where a row has fewer."""
        batch, width = self.layout.batch, self.flat.shape[-1]
        if self.flat.shape[0] == batch < sum(self.counts):
            # Nothing else was computed; in the order of the runs.
            flat = torch.empty_like(self.flat)
            flat[list(self.layout.order())] = self.flat
            return flat.view(batch, count, width)
        if self.flat.shape[0] == batch * count and self.layout.kept is None and self.layout.length == count:
            return self.flat.view(batch, count, width)
        if min(self.counts) >= count:
            chosen = torch.cat([places[len(places) - count :] for places in self.places()])
            return self.flat[chosen].view(batch, count, width)
        out = self.flat.new_zeros(batch, count, width)
        for row, places in enumerate(self.places()):
            held = places[max(len(places) - count, 0) :]
            out[row, count - len(held) :] = self.flat[held]
        return out


class DecoderModel(PreTrainedModel):
    """A causal transformer, without a head."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        spec = self.spec
        self.gradient_checkpointing = False
        self.embeddings = (spec.embeddings or Embeddings)(spec)
        self.layers = nn.ModuleList((spec.block or CausalBlock)(spec, index) for index in range(spec.layers))
        self.norm = make_norm(spec) if spec.has_final_norm else None
        self.position_bias = cast("CausalBias | None", spec.position_bias and spec.position_bias(spec))
        self.windows = spec.windows or (None,) * spec.layers
        self.rotary = list(dict.fromkeys(kind for kind in spec.rotary or () if kind is not None))
        # All blocks as one call, for few tokens of quantized weights, or for one token a row; made by `for_inference`.
        self.program: Program | None = None
        self.stepped: Stepped | None = None
        self.post_init()

    def prepare(self) -> None:
        """Make one call of all blocks, for few tokens, where they are of the common kind."""
        self.program = Program.of(self.layers)
        self.stepped = Stepped.of(self.layers, self.position_bias) if self.program is None else None

    def finish_preparing(self) -> None:
        """Make the compiled call ready, where there is one."""
        if self.stepped is not None:
            self.stepped.prepare()

    def new_cache(self, rows: int, capacity: int | None = None) -> Cache:
        """An empty cache for `rows` rows with room for `capacity` tokens each; it grows beyond them."""
        cache = Cache(rows, capacity)
        self._prepare(cache, rows)
        return cache

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Hidden states of every token. See `decode`."""
        decoded = self.decode(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
        )
        output = BaseModelOutputWithPast(decoded.padded(), decoded.cache, decoded.hidden_states, decoded.attentions)
        return self.finish(output, return_dict)

    def decode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        keep_padding: bool = False,
        source: CrossMemory | None = None,
        only_last: bool = False,
    ) -> Decoded:
        """Ids (B, S) or embeddings (B, S, W), with the mask (B, S) of those that count, to hidden states.

        Tokens that do not count, on either side, are dropped: they get no position and nothing of them is stored.
        Their hidden states are zero; `keep_padding` computes them. Positions go on from what the row's cache holds. The
        mask may also be (B, tokens in the cache + S). Rows whose `position_ids` restart hold several sequences, none of
        which sees another. `use_cache` is config.use_cache unless given, and off in training. `source` is what
        cross-attention reads, unless the cache holds it. `only_last`: the last token of each row is all that is needed.
        """
        spec, config = self.spec, self.config
        output_attentions = given(output_attentions, config.output_attentions)
        output_hidden_states = given(output_hidden_states, config.output_hidden_states)
        tokens = check_tokens(input_ids, inputs_embeds, self.get_input_embeddings().embedding_dim)
        batch, length = tokens.shape[:2]
        cache = self._cache(past_key_values, use_cache, batch)
        starts = [0] * batch if cache is None else cache.lengths
        mask = self._mask(attention_mask, batch, length, starts)
        places = None if position_ids is None else fit("position_ids", position_ids, batch, length)
        filled = any(starts)
        pack = filled or (
            not (output_attentions or keep_padding) and (cache is not None or tokens.device.type == "cpu")
        )
        restarts = None if filled else places
        layout = plan(batch, length, mask, causal=True, pack=pack, positions=restarts, anywhere=True)
        counts = _counts(layout, mask)
        masked = bool(layout.runs) and layout.runs[0].mask is not None
        if cache is not None and (layout.packed or masked):
            if use_cache or past_key_values is not None:
                raise _uncached(layout)
            cache = None
        if output_attentions and (layout.packed or (filled and layout.kept is not None)):
            raise UnsupportedError(
                "Attention maps of rows that hold several sequences, or of padded tokens that follow a cache, "
                "have no common shape.",
                "Leave output_attentions out, or pass rows of equal length.",
            )
        longest = max(map(int.__add__, starts, counts))
        positions = self._positions(layout, places, mask if masked else None, starts, counts)
        if places is not None and any(isinstance(kind.scaling, Dynamic | LongRope) for kind in self.rotary):
            longest = int(positions.max()) + 1
        if spec.positions is not None and places is None and longest > spec.positions - spec.first_position:
            raise InputError(
                f"The input has {longest} tokens; this model takes at most {spec.positions - spec.first_position}.",
                "Shorten it, for example with truncation=True in the tokenizer's call.",
            )
        x = self.embeddings(layout.gather(tokens), positions + spec.first_position, None)
        context = CausalContext(
            runs=layout.runs,
            function=eager if output_attentions and self.attention is sdpa else self.attention,
            rotary=self._tables(positions, longest, x.dtype),
            weights=[] if output_attentions else None,
            bias=self.position_bias,
        )
        if self.position_bias is not None and self.gradient_checkpointing and self.training:
            # Blocks that are computed twice must find it both times.
            self.position_bias.prepare(layout.runs)
        if cache is not None and cache.cross is not None:
            source = cache.cross
        if source is not None:
            context.reading = self._reading(source, layout, cache is not None, context)
        states = [x] if output_hidden_states else None
        layers: Iterable[nn.Module] = self.layers
        if cache is not None:
            cache.cross = source
            if self.program is not None and states is None and self.program.serves(x, context, not filled):
                cache.reserve(counts)
                ends = layout.last_tokens() if only_last and min(counts) else None
                x, layers = self.program.run(x, context, cache, layout.order(), counts, ends), ()
            elif states is None and self.stepped is not None and (step := self.stepped.compiled(x, context)):
                cache.reserve(counts, scattered=True)
                x, layers = self.stepped.run(step, x, context, cache, layout.order()), ()
            else:
                separate = torch.is_grad_enabled() and len(set(starts)) > 1
                appends = cache.append(layout, counts, separate)
                context.appends = [(appends[store], index) for store, index in cache.slots]
        for layer in layers:
            if spec.layer_dropout and self.training and float(torch.rand(())) < spec.layer_dropout:
                continue
            if self.gradient_checkpointing and self.training:
                x = checkpoint(layer, x, context, use_reentrant=False)
            else:
                x = layer(x, context)
            if states is not None:
                states.append(x)
        if self.norm is not None:
            x = self.norm(x)
            if states is not None:
                states[-1] = x
        if spec.final_dropout:
            x = dropout(x, spec.final_dropout, self.training)
        if cache is not None:
            cache.advance(counts)
            if source is not None:
                source.settle()
        return Decoded(
            x,
            layout,
            counts,
            cache,
            None if states is None else tuple(layout.scatter(state) for state in states),
            None if context.weights is None else tuple(context.weights),
            None if context.reading is None or not output_attentions else tuple(context.reading.weights or ()),
        )

    def _reading(self, source: CrossMemory, layout: Layout, keep: bool, context: CausalContext) -> Reading:
        if source.rows != layout.batch:
            raise InputError(
                f"The decoder's input has {layout.batch} rows; {source.rows} sources are there to read.",
                "Pass one source a row.",
            )
        return Reading(source, layout, context.function, keep, None if context.weights is None else [])

    def _cache(self, past: Cache | None, use_cache: bool | None, rows: int) -> Cache | None:
        if past is None:
            wanted = bool(self.config.use_cache) if use_cache is None else use_cache
            if not wanted or (self.training and (use_cache is None or self.gradient_checkpointing)):
                return None
            past = Cache(rows)
        elif not isinstance(past, Cache):
            raise InputError(
                f"past_key_values is a {type(past).__name__}.",
                "Pass a cache: what an earlier call returned, model.new_cache(rows), or DynamicCache().",
            )
        self._prepare(past, rows)
        return past

    def _prepare(self, cache: Cache, rows: int) -> None:
        weight = self.get_input_embeddings().weight
        cache.prepare(rows, self.windows, self.spec.key_heads, self.spec.head_dim, weight.dtype, self.device)

    def _mask(self, mask: Tensor | None, batch: int, length: int, starts: Sequence[int]) -> Tensor | None:
        """The part (B, S) of the mask that speaks of the new tokens."""
        if mask is None or mask.shape == (batch, length):
            return mask
        held = max(starts)
        if not held or mask.dim() != 2 or mask.shape[0] != batch or mask.shape[1] <= length:
            raise misfit("attention_mask", mask, batch, length)
        earlier = (mask[:, :-length] != 0).sum(1).tolist()
        if earlier != list(starts):
            raise InputError(
                f"The attention_mask counts {earlier} earlier tokens a row; the cache holds {list(starts)}.",
                "Pass the mask of the new tokens alone, or that of all tokens since the cache was empty.",
            )
        return mask[:, -length:]

    def _positions(
        self,
        layout: Layout,
        places: Tensor | None,
        mask: Tensor | None,
        starts: Sequence[int],
        counts: Sequence[int],
    ) -> Tensor:
        """Positions (T,), from 0 on."""
        device = self.device
        if places is not None:
            return layout.gather(places)
        if mask is not None:
            real = (mask != 0).long()
            line = torch.arange(layout.length, device=device).expand_as(real)
            return torch.where(real == 1, real.cumsum(1) - 1, line).flatten()
        if len(set(starts)) == 1 and layout.kept is None:
            line = torch.arange(starts[0], starts[0] + layout.length, device=device)
            return line if layout.batch == 1 else line.repeat(layout.batch)
        each = (range(starts[row], starts[row] + counts[row]) for row in layout.order())
        return torch.tensor([place for row in each for place in row], device=device)

    def _tables(self, positions: Tensor, longest: int, dtype: torch.dtype) -> dict[Rotary, tuple[Tensor, Tensor]]:
        return {kind: kind.table(positions, longest, dtype) for kind in self.rotary}


def _counts(layout: Layout, mask: Tensor | None) -> list[int]:
    """How many tokens of each row count."""
    if mask is None or (layout.kept is None and layout.runs[0].mask is None):
        return [layout.length] * layout.batch
    if layout.rows is None:
        counted: list[int] = (mask != 0).sum(1).tolist()
        return counted
    counts = [0] * layout.batch
    lengths = (run.length for run in layout.runs for _ in range(run.batch))
    for row, length in zip(layout.rows, lengths, strict=True):
        counts[row] = length
    return counts


def _uncached(layout: Layout) -> InputError:
    if layout.packed:
        return InputError(
            "The position_ids restart within a row, so that it holds several sequences; a cache holds one a row.",
            "Pass use_cache=False, or one sequence a row.",
        )
    return InputError(
        "Attention maps and losses of padding are not computed together with a cache.", "Pass use_cache=False."
    )
