"""Encoder–decoders with heads, once for all families. Shapes as in `seq2seq`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from formers.configuration import PreTrainedConfig
from formers.errors import InputError
from formers.layers.cache import Cache, EncoderDecoderCache
from formers.models.base import PreTrainedModel
from formers.models.decoder import DecoderModel
from formers.models.encoder import EncoderModel
from formers.models.generative import GenerativeModel, VocabularyHead
from formers.models.heads import OutputHead, class_loss, classification_loss, labels_padding, spans
from formers.models.seq2seq import Seq2SeqModel
from formers.outputs import (
    Seq2SeqLMOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    Seq2SeqSequenceClassifierOutput,
)


class Seq2SeqForConditionalGeneration(GenerativeModel):
    """Vocabulary logits (B, T, V) for the decoder's next tokens. `labels` (B, T), -100 where nothing is learnt."""

    # The bare model's class, set when the concrete class is made.
    base_class: ClassVar[type[Seq2SeqModel]]
    tied: ClassVar[Mapping[str, str]] = {
        "model.decoder.embeddings.tokens.weight": "model.encoder.embeddings.tokens.weight",
        "head.output.weight": "model.encoder.embeddings.tokens.weight",
    }

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = self.base_class(config)
        self.head = VocabularyHead(self.spec)
        self.post_init()

    @property
    def encoder(self) -> EncoderModel:
        """The encoder."""
        return self.model.encoder

    @property
    def decoder(self) -> DecoderModel:
        """The decoder."""
        return self.model.decoder

    def get_encoder(self) -> EncoderModel:
        """The encoder: ids (B, S) to hidden states."""
        return self.model.encoder

    def get_decoder(self) -> DecoderModel:
        """The decoder."""
        return self.model.decoder

    def ties(self) -> Mapping[str, str]:
        """Where the decoder has embeddings of its own, the logits share those."""
        ties = super().ties()
        if not self.spec.own_embeddings:
            return ties
        return {name: "model.decoder.embeddings.tokens.weight" for name in ties if name == "head.output.weight"}

    def new_cache(self, rows: int, capacity: int | None = None) -> EncoderDecoderCache:
        """An empty cache, as `Seq2SeqModel.new_cache`."""
        return self.model.new_cache(rows, capacity)

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Decoder inputs (B, T) that ask for the labels (B, T)."""
        return self.model.shifted(labels)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
    ) -> Any:
        """Logits, the loss when `labels` are given, and the cache. Inputs as in Seq2SeqModel.transduce.

        Labels, shifted, are the decoder's input unless it is given. `logits_to_keep` as in DecoderForCausalLM.
        """
        if labels is not None:
            use_cache = False if use_cache is None else use_cache
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.model.shifted(labels)
        both = self.model.transduce(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            past_key_values,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
            keep_padding=labels_padding(labels, decoder_attention_mask),
        )
        decoded, loss = both.decoded, None
        if isinstance(logits_to_keep, Tensor):
            logits = self.head(decoded.padded()[:, logits_to_keep])
        elif logits_to_keep:
            logits = self.head(decoded.last(logits_to_keep))
        else:
            flat = self.head(decoded.flat)
            logits = decoded.layout.scatter(flat)
            if labels is not None:
                loss = class_loss(flat, decoded.layout.gather(labels))
        if labels is not None and loss is None:
            raise InputError("A loss needs all logits.", "Leave logits_to_keep out, or the labels.")
        return self.finish(Seq2SeqLMOutput(loss, logits, **both.states()), return_dict)


class Seq2SeqWithHead(PreTrainedModel):
    """An encoder–decoder `model` with a `head` on the decoder's states. The decoder reads the source, shifted."""

    # The bare model's class, set when the concrete class is made.
    base_class: ClassVar[type[Seq2SeqModel]]
    tied: ClassVar[Mapping[str, str]] = {
        "model.decoder.embeddings.tokens.weight": "model.encoder.embeddings.tokens.weight"
    }

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = self.base_class(config)
        self.head = self.make_head()
        self.post_init()

    def make_head(self) -> nn.Module:
        """The head."""
        raise NotImplementedError

    def get_encoder(self) -> EncoderModel:
        """The encoder: ids (B, S) to hidden states."""
        return self.model.encoder

    def get_decoder(self) -> DecoderModel:
        """The decoder."""
        return self.model.decoder

    def decoder_inputs(self, input_ids: Tensor | None, decoder_input_ids: Tensor | None, embeds: Tensor | None) -> Any:
        """The decoder's ids: those given, or the source's, shifted; None where embeddings are given."""
        if decoder_input_ids is not None or embeds is not None:
            return decoder_input_ids
        if input_ids is None:
            raise InputError(
                f"{type(self).__name__} got no input_ids for its decoder to read.",
                "Pass input_ids, or decoder_input_ids beside what the encoder is to read.",
            )
        return self.model.shifted(input_ids)


class Seq2SeqForSequenceClassification(Seq2SeqWithHead):
    """Logits (B, labels) of the last end-of-sequence token. `labels` (B) classes or numbers, or (B, labels)."""

    def make_head(self) -> nn.Module:
        """Transform, dropout, product."""
        return OutputHead(self.spec, self.config.num_labels, self.spec.head.classifier, self.spec.head.dropout)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits, and the loss when `labels` are given. Inputs as in Seq2SeqModel.transduce; ids are needed."""
        if input_ids is None:
            raise InputError(
                f"{type(self).__name__} finds the end of a sequence by its token, and got no input_ids.",
                "Pass input_ids.",
            )
        both = self.model.transduce(
            input_ids,
            attention_mask,
            self.decoder_inputs(input_ids, decoder_input_ids, decoder_inputs_embeds),
            decoder_attention_mask,
            encoder_outputs,
            None,
            inputs_embeds,
            decoder_inputs_embeds,
            False if labels is not None else use_cache,
            output_attentions,
            output_hidden_states,
        )
        hidden = both.decoded.padded()
        logits = self.head(hidden[torch.arange(len(hidden), device=hidden.device), self._ends(input_ids, hidden)])
        loss = None if labels is None else classification_loss(logits, labels, self.config)
        return self.finish(Seq2SeqSequenceClassifierOutput(loss, logits, **both.states()), return_dict)

    def _ends(self, input_ids: Tensor, hidden: Tensor) -> Tensor:
        """The place (B) of each row's last end-of-sequence token."""
        last = self.config.eos_token_id
        ends = torch.isin(input_ids, torch.tensor([] if last is None else last, device=input_ids.device))
        if ends.shape != hidden.shape[:2] or not bool(ends.any(1).all()):
            raise InputError(
                f"Not every row of input_ids holds config.eos_token_id ({self.config.eos_token_id}) "
                "at a place that the decoder reads too.",
                "Tokenize with special tokens, and leave decoder_input_ids out.",
            )
        place = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
        return (ends * place).argmax(1)


class Seq2SeqForQuestionAnswering(Seq2SeqWithHead):
    """Logits (B, T) for the start and the end of an answer. `start_positions` and `end_positions` (B)."""

    def make_head(self) -> nn.Module:
        """Two logits a token."""
        return OutputHead(self.spec, 2, None, 0.0)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits of both ends, with the loss when both positions are given. Inputs as in Seq2SeqModel.transduce."""
        trained = start_positions is not None and end_positions is not None
        both = self.model.transduce(
            input_ids,
            attention_mask,
            self.decoder_inputs(input_ids, decoder_input_ids, decoder_inputs_embeds),
            decoder_attention_mask,
            encoder_outputs,
            None,
            inputs_embeds,
            decoder_inputs_embeds,
            False if trained else use_cache,
            output_attentions,
            output_hidden_states,
            keep_padding=trained,
        )
        found = spans(both.decoded.layout.scatter(self.head(both.decoded.flat)), start_positions, end_positions)
        return self.finish(Seq2SeqQuestionAnsweringModelOutput(*found, **both.states()), return_dict)
