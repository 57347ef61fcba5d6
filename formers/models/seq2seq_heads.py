"""Encoder–decoders with heads, once for all families. Shapes as in `seq2seq`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from formers.configuration import PreTrainedConfig
from formers.errors import InputError
from formers.layers.cache import Cache, EncoderDecoderCache
from formers.models.decoder import DecoderModel
from formers.models.encoder import EncoderModel
from formers.models.generative import GenerativeModel, VocabularyHead
from formers.models.heads import class_loss, labels_padding
from formers.models.seq2seq import Seq2SeqModel
from formers.outputs import Seq2SeqLMOutput


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

    def get_input_embeddings(self) -> Any:
        """The token embeddings."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the token embeddings."""
        self.model.set_input_embeddings(value)
        self.tie_weights()

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
