"""The encoder skeleton: embeddings, blocks, and the road between padded batches and flat tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from formers.configuration import PreTrainedConfig
from formers.errors import InputError
from formers.layers.attention import AttentionContext, PositionBias, eager, sdpa
from formers.layers.block import Block
from formers.layers.compiled import Sequences
from formers.layers.dropout import dropout
from formers.layers.embeddings import Embeddings
from formers.layers.layout import Layout, Queries, Rectangle, plan
from formers.layers.norms import make_norm
from formers.layers.positions import positions_after_padding, rotary_table
from formers.layers.stacked import Stacked, require
from formers.models.base import PreTrainedModel
from formers.models.heads import TransformLayer
from formers.models.inputs import check_tokens, fit, given, misfit
from formers.outputs import BaseModelOutput, BaseModelOutputWithPooling


@dataclass
class Encoded:
    """Hidden states of one forward, flat (T, W), with the layout that takes them back to (B, S, W)."""

    flat: Tensor
    layout: Layout
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    # Set when only the first token of each sequence was computed; `flat` is (B, W) then.
    queries: Queries | None = None

    def padded(self) -> Tensor:
        """The last hidden states (B, S, W)."""
        return self.layout.scatter(self.flat)

    def check_one_sequence_a_row(self) -> None:
        """Raise an error for rows of several sequences, where a head answers once a row."""
        if self.layout.packed:
            raise _packed(_ONE_ANSWER)

    def first(self) -> Tensor:
        """The last hidden state (B, W) of each sequence's first token."""
        if self.queries is None:
            return self.padded()[:, 0]
        return self.layout.scatter_sequences(self.flat, self.queries)


class EncoderModel(PreTrainedModel):
    """A bidirectional transformer, or a causal one where the spec says so, with the family's pooler if it has one."""

    def __init__(self, config: PreTrainedConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        spec = self.spec
        self.gradient_checkpointing = False
        make = spec.block or Block
        self.embeddings = (spec.embeddings or Embeddings)(spec)
        self.layers = nn.ModuleList(make(spec, index) for index in range(spec.blocks))
        self.norm = make_norm(spec) if spec.has_final_norm else None
        self.position_bias = cast("PositionBias | None", spec.position_bias and spec.position_bias(spec))
        pooler = spec.head.pooler if add_pooling_layer else None
        self.pooler = None if pooler is None else TransformLayer(spec.width, pooler, spec)
        self.stacked: Stacked | None = None
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Hidden states of every token, and the pooled first token where the family has a pooler. See `encode`."""
        encoded = self.encode(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
        )
        hidden = encoded.padded()
        extras = {"hidden_states": encoded.hidden_states, "attentions": encoded.attentions}
        if self.spec.head.pooler is None:
            return self.finish(BaseModelOutput(hidden, **extras), return_dict)
        pooled = None if self.pooler is None else self.pooler(hidden[:, 0])
        return self.finish(BaseModelOutputWithPooling(hidden, pooled, **extras), return_dict)

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        keep_padding: bool = False,
        first_only: bool = False,
    ) -> Encoded:
        """Ids (B, S) or embeddings (B, S, E), mask (B, S), token types and positions (B, S) to hidden states.

        Those of padding are zero where it was dropped; `keep_padding` computes them. With `first_only` the caller reads
        only the first token of each sequence, and the last layer computes no other where the family allows it.

        A row whose `position_ids` count up and restart (at 0, or where the family's positions begin) holds several
        sequences, none of which sees another: attention, windows, relative positions and convolutions stay within each,
        for every family. Such rows may be longer than one sequence may.
        """
        output_attentions = given(output_attentions, self.config.output_attentions)
        output_hidden_states = given(output_hidden_states, self.config.output_hidden_states)
        tokens = check_tokens(input_ids, inputs_embeds, self.get_input_embeddings().embedding_dim)
        batch, length = tokens.shape[:2]
        if attention_mask is not None and attention_mask.shape != (batch, length):
            raise misfit("attention_mask", attention_mask, batch, length)
        pack = not (output_attentions or keep_padding) and tokens.device.type == "cpu"
        places = None if position_ids is None else fit("position_ids", position_ids, batch, length)
        first = self.spec.first_position
        layout = plan(batch, length, attention_mask, causal=self.spec.causal, pack=pack, positions=places, first=first)
        if layout.packed and output_attentions:
            raise _packed("their attention maps have no common shape")
        if layout.packed and keep_padding:
            raise _packed("labels on padding, and answers' ends, need rows of one sequence")
        if layout.packed and first_only:
            raise _packed(_ONE_ANSWER)
        positions = self._positions(tokens, input_ids, places)
        types = None
        if token_type_ids is not None:
            types = layout.gather(fit("token_type_ids", token_type_ids, batch, length))
        flat_positions = layout.gather(positions) if positions is not None else None
        x = self.embeddings(layout.gather(tokens), flat_positions, types)
        if self.spec.even_padding and layout.runs[0].mask is not None:
            x = x * layout.runs[0].mask.flatten()[:, None]
        sequences = Sequences.of(layout.runs, x) if any(block.compiled for block in self.layers) else None
        context = AttentionContext(
            runs=layout.runs,
            function=eager if output_attentions and self.attention is sdpa else self.attention,
            position_bias=None if self.position_bias is None else self.position_bias(layout.runs),
            rotary=self._rotary(flat_positions, x.dtype),
            weights=[] if output_attentions else None,
            rectangle=Rectangle.of(layout.runs, x.device) if torch.is_grad_enabled() and sequences is None else None,
            sequences=sequences,
        )
        states = [x] if output_hidden_states else None
        last_queries = None
        if first_only and not (output_attentions or output_hidden_states) and self.spec.plain_blocks:
            last_queries = layout.first_tokens()
        if states is None and self.stacked is not None and (compiled := self.stacked.compiled(x, context)):
            lengths = [run.length for run in layout.runs for _ in range(run.batch)]
            return Encoded(compiled(x, lengths, last_queries is not None), layout, queries=last_queries)
        order = self._order()
        for position, index in enumerate(order):
            layer = self.layers[index]
            queries = last_queries if position == len(order) - 1 else None
            if self.training and self.spec.layer_dropout and float(torch.rand(())) < self.spec.layer_dropout:
                continue
            if self.gradient_checkpointing and self.training:
                x = checkpoint(layer, x, context, queries, use_reentrant=False)
            else:
                x = layer(x, context, queries)
            if states is not None:
                states.append(x)
        if self.norm is not None:
            x = self.norm(x)
            if states is not None:
                states[-1] = x
        if self.spec.final_dropout:
            x = dropout(x, self.spec.final_dropout, self.training)
        return Encoded(
            x,
            layout,
            None if states is None else tuple(layout.scatter(state) for state in states),
            None if context.weights is None else tuple(context.weights),
            last_queries,
        )

    def prepare(self) -> None:
        """All layers as one compiled call, which is made ready beside the first calls."""
        self.stacked = Stacked.of(self.layers, self._order(), self.norm)

    def finish_preparing(self) -> None:
        """Make the compiled call ready."""
        require(self.stacked)

    def _order(self) -> Sequence[int]:
        return self.spec.shared_layers or range(self.spec.layers)

    def _positions(self, tokens: Tensor, input_ids: Tensor | None, given: Tensor | None) -> Tensor | None:
        spec = self.spec
        if spec.positions is None and spec.rope_thetas is None:
            return None
        batch, length = tokens.shape[:2]
        if spec.positions is not None and given is None:
            offset = spec.first_position
            if length > spec.positions - offset:
                raise InputError(
                    f"The input has {length} tokens; this model takes at most {spec.positions - offset}.",
                    "Shorten it, for example with truncation=True in the tokenizer's call.",
                )
            if spec.positions_after is not None and input_ids is not None:
                return positions_after_padding(input_ids, spec.positions_after)
            given = torch.arange(offset, offset + length, device=tokens.device)
        elif given is None:
            given = torch.arange(length, device=tokens.device)
        return given.expand(batch, length)

    def _rotary(self, positions: Tensor | None, dtype: torch.dtype) -> dict[float, tuple[Tensor, Tensor]] | None:
        if self.spec.rope_thetas is None or positions is None:
            return None
        return {t: rotary_table(positions, self.spec.head_dim, t, dtype) for t in sorted(set(self.spec.rope_thetas))}


_ONE_ANSWER = "this head answers once a row"


def _packed(why: str) -> InputError:
    return InputError(
        f"The position_ids restart within a row, so that it holds several sequences; {why}.",
        "Pass one sequence a row, or leave position_ids out.",
    )
