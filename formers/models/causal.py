"""Decoders with heads, once for all families. Shapes: B sequences, S tokens, W width, V vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.configuration import PreTrainedConfig
from formers.errors import InputError
from formers.layers.cache import Cache
from formers.layers.cross import CrossMemory
from formers.models.base import PreTrainedModel
from formers.models.decoder import Decoded, DecoderModel
from formers.models.generative import GenerativeModel, VocabularyHead
from formers.models.heads import IGNORED, OutputHead, class_loss, classification_loss, labels_padding, spans
from formers.outputs import (
    CausalLMOutputWithCrossAttentions,
    CausalLMOutputWithPast,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)


class DecoderWithHead(PreTrainedModel):
    """A decoder `model` with a `head` on its hidden states."""

    # The bare model's class, set when the concrete class is made.
    base_class: ClassVar[type[DecoderModel]]

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = self.base_class(config)
        self.head = self.make_head()
        self.post_init()

    def make_head(self) -> nn.Module:
        """The head."""
        raise NotImplementedError


class DecoderForCausalLM(GenerativeModel):
    """Vocabulary logits (B, S, V) for next tokens. `labels` (B, S) are the inputs, -100 where nothing is learnt."""

    # The bare model's class, set when the concrete class is made.
    base_class: ClassVar[type[DecoderModel]]
    tied: ClassVar[Mapping[str, str]] = {"head.output.weight": "model.embeddings.tokens.weight"}

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = self.base_class(config)
        self.head = VocabularyHead(self.spec)
        self.post_init()

    def new_cache(self, rows: int, capacity: int | None = None) -> Cache:
        """An empty cache, as `DecoderModel.new_cache`."""
        return self.model.new_cache(rows, capacity)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
    ) -> Any:
        """Logits, the loss when `labels` are given, and the cache. Inputs as in DecoderModel.decode.

        `encoder_hidden_states` (B, K, W) with their mask (B, K) are what cross-attention reads, where the model has it.
        `logits_to_keep` > 0: only those of each row's last tokens that count, (B, logits_to_keep, V); a tensor chooses
        among the S places. Logits of dropped padding are zero.
        """
        decoded = self.model.decode(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
            keep_padding=labels_padding(labels, attention_mask),
            only_last=labels is None and type(logits_to_keep) is int and logits_to_keep == 1,
            source=self._source(encoder_hidden_states, encoder_attention_mask),
        )
        loss = None
        if isinstance(logits_to_keep, Tensor):
            logits = self.head(decoded.padded()[:, logits_to_keep])
        elif logits_to_keep:
            logits = self.head(decoded.last(logits_to_keep))
        else:
            flat = self.head(decoded.flat)
            logits = decoded.layout.scatter(flat)
            if labels is not None:
                following = labels if self.spec.head.labels_ahead else F.pad(labels[:, 1:], (0, 1), value=IGNORED)
                loss = class_loss(flat, decoded.layout.gather(following))
        if labels is not None and loss is None:
            raise InputError("A loss needs all logits.", "Leave logits_to_keep out, or the labels.")
        values = (loss, logits, decoded.cache, decoded.hidden_states, decoded.attentions)
        if self.spec.cross_width is None:
            return self.finish(CausalLMOutputWithPast(*values), return_dict)
        return self.finish(CausalLMOutputWithCrossAttentions(*values, decoded.cross_attentions), return_dict)

    def _source(self, states: Tensor | None, mask: Tensor | None) -> CrossMemory | None:
        if states is None:
            return None
        if self.spec.cross_width is None:
            raise InputError(
                f"{type(self).__name__} got encoder_hidden_states, and has no cross-attention to read them.",
                "Leave them out, or load it with add_cross_attention=True.",
            )
        return CrossMemory.of(states, mask)


class DecoderForSequenceClassification(DecoderWithHead):
    """Logits (B, labels) of each sequence's last token. `labels` (B) classes or numbers, or (B, labels)."""

    def make_head(self) -> nn.Module:
        """One product."""
        return OutputHead(self.spec, self.config.num_labels, None, 0.0, bias=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits, the loss when `labels` are given, and the cache. Inputs as in DecoderModel.decode.

        The last token is the last one that the mask counts; without a mask, the last that is not config.pad_token_id.
        """
        if attention_mask is None and input_ids is not None and self.config.pad_token_id is not None:
            attention_mask = _until_padding(input_ids, self.config.pad_token_id)
        decoded = self.model.decode(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
        )
        logits = self.head(decoded.last(1)[:, 0])
        loss = None if labels is None else classification_loss(logits, labels, self.config)
        output = SequenceClassifierOutputWithPast(
            loss, logits, decoded.cache, decoded.hidden_states, decoded.attentions
        )
        return self.finish(output, return_dict)


def _until_padding(ids: Tensor, pad: int) -> Tensor | None:
    """1 up to each row's last token that is not padding; None where that is all."""
    place = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    last = (place * (ids != pad)).amax(1, keepdim=True)
    if bool((last == ids.shape[1]).all()):
        return None
    return (place <= last.clamp(min=1)).long()


class DecoderForTokenClassification(DecoderWithHead):
    """Logits (B, S, labels) for every token. `labels` (B, S), -100 where there is none."""

    def make_head(self) -> nn.Module:
        """Dropout and one product."""
        head = self.spec.head
        dropout = head.dropout if head.token_dropout is None else head.token_dropout
        return OutputHead(self.spec, self.config.num_labels, None, dropout)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits, and the loss when `labels` are given. Inputs as in DecoderModel.decode."""
        decoded = self.model.decode(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            _only_if_given(use_cache, past_key_values),
            output_attentions,
            output_hidden_states,
            keep_padding=labels_padding(labels, attention_mask),
        )
        flat = self.head(decoded.flat)
        loss = None if labels is None else class_loss(flat, decoded.layout.gather(labels))
        logits = decoded.layout.scatter(flat)
        return self.finish(TokenClassifierOutput(loss, logits, *_states(decoded)), return_dict)


class DecoderForQuestionAnswering(DecoderWithHead):
    """Logits (B, S) for the start and the end of an answer. `start_positions` and `end_positions` (B)."""

    def make_head(self) -> nn.Module:
        """Two logits a token."""
        return OutputHead(self.spec, 2, None, 0.0)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits of both ends, with the loss when both positions are given. Inputs as in DecoderModel.decode."""
        decoded = self.model.decode(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            _only_if_given(None, past_key_values),
            output_attentions,
            output_hidden_states,
            keep_padding=start_positions is not None,
        )
        found = spans(decoded.layout.scatter(self.head(decoded.flat)), start_positions, end_positions)
        return self.finish(QuestionAnsweringModelOutput(*found, *_states(decoded)), return_dict)


def _only_if_given(use_cache: bool | None, past: Cache | None) -> bool:
    """These heads return no cache, so they fill none of their own."""
    return past is not None and use_cache is not False


def _states(decoded: Decoded) -> tuple[Any, Any]:
    return decoded.hidden_states, decoded.attentions
