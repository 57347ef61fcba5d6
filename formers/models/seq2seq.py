"""Encoder–decoders without a head: an encoder, and a decoder that reads its states.

Shapes: B sequences, S tokens of the encoder, T of the decoder, W width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from formers.configuration import PreTrainedConfig
from formers.errors import ConfigError, InputError
from formers.layers.cache import Cache, EncoderDecoderCache
from formers.layers.cross import CrossMemory, visible
from formers.models.base import PreTrainedModel
from formers.models.decoder import Decoded, DecoderModel
from formers.models.encoder import Encoded, EncoderModel
from formers.models.heads import IGNORED
from formers.models.inputs import given
from formers.outputs import BaseModelOutput, Seq2SeqModelOutput


@dataclass
class Transduced:
    """One forward of both halves."""

    decoded: Decoded
    # None where the cache held all that there was to read.
    encoded: BaseModelOutput | None

    def states(self) -> dict[str, Any]:
        """What outputs hold beside their results, by name."""
        decoded, encoded = self.decoded, self.encoded or BaseModelOutput()
        return {
            "past_key_values": decoded.cache,
            "decoder_hidden_states": decoded.hidden_states,
            "decoder_attentions": decoded.attentions,
            "cross_attentions": decoded.cross_attentions,
            "encoder_last_hidden_state": encoded.last_hidden_state,
            "encoder_hidden_states": encoded.hidden_states,
            "encoder_attentions": encoded.attentions,
        }


class Seq2SeqModel(PreTrainedModel):
    """An encoder and a decoder, without a head."""

    # Set when the concrete class is made.
    encoder_class: ClassVar[type[EncoderModel]]
    decoder_class: ClassVar[type[DecoderModel]]
    tied: ClassVar[Mapping[str, str]] = {"decoder.embeddings.tokens.weight": "encoder.embeddings.tokens.weight"}

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.encoder = self.encoder_class(config)
        self.decoder = self.decoder_class(config)
        self.post_init()

    def prepare(self) -> None:
        """A few steps of the decoder are reason enough to compile the encoder too."""
        stepped, stacked = self.decoder.stepped, self.encoder.stacked
        if stepped is not None and stacked is not None:
            stepped.beside.bring(stacked.beside)

    def get_encoder(self) -> EncoderModel:
        """The encoder: ids (B, S) to hidden states."""
        return self.encoder

    def get_decoder(self) -> DecoderModel:
        """The decoder."""
        return self.decoder

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embeddings of the encoder, which the decoder usually shares."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embeddings of both halves."""
        self.encoder.set_input_embeddings(value)
        self.decoder.set_input_embeddings(value)
        self.tie_weights()

    def ties(self) -> Mapping[str, str]:
        """None where the decoder has embeddings of its own."""
        return {} if self.spec.own_embeddings else super().ties()

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""
        return self.encoder.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self.encoder.gradient_checkpointing = self.decoder.gradient_checkpointing = value

    def new_cache(self, rows: int, capacity: int | None = None) -> EncoderDecoderCache:
        """An empty cache for `rows` rows with room for `capacity` decoder tokens each; it grows beyond them."""
        cache = EncoderDecoderCache()
        cache.lengths, cache.capacity = [0] * rows, capacity
        return cache

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
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Hidden states of every decoder token. See `transduce`."""
        both = self.transduce(
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
        )
        return self.finish(Seq2SeqModelOutput(both.decoded.padded(), **both.states()), return_dict)

    def transduce(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        keep_padding: bool = False,
    ) -> Transduced:
        """Read ids (B, S), embeddings (B, S, W) or an encoder's output, and decode ids (B, T) or embeddings (B, T, W).

        `attention_mask` (B, S) and `decoder_attention_mask` (B, T) say which tokens count; others are dropped. A cache
        that has read an encoder's states needs neither them nor their mask again. `keep_padding` as in
        `DecoderModel.decode`.
        """
        output_attentions = given(output_attentions, self.config.output_attentions)
        output_hidden_states = given(output_hidden_states, self.config.output_hidden_states)
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self._own_inputs(input_ids)
        memory, encoded = None, as_output(encoder_outputs)
        if past_key_values is None or getattr(past_key_values, "cross", None) is None:
            memory, encoded = self.read(
                input_ids, attention_mask, inputs_embeds, encoded, output_attentions, output_hidden_states
            )
        decoded = self.decoder.decode(
            decoder_input_ids,
            decoder_attention_mask,
            None,
            past_key_values,
            decoder_inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
            keep_padding,
            memory,
        )
        return Transduced(decoded, encoded)

    def read(
        self,
        inputs: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None = None,
        encoded: BaseModelOutput | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> tuple[CrossMemory, BaseModelOutput]:
        """What the decoder reads: the states of new inputs, or those of an encoder's output."""
        if encoded is None:
            run = self.encode(inputs, attention_mask, inputs_embeds, output_attentions, output_hidden_states)
            encoded = BaseModelOutput(run.padded(), run.hidden_states, run.attentions)
            return CrossMemory(run.flat, run.layout, visible(run.layout, attention_mask)), encoded
        states: Any = encoded.last_hidden_state
        return CrossMemory.of(states, attention_mask), encoded

    def encode(
        self,
        inputs: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None,
        output_attentions: bool,
        output_hidden_states: bool,
    ) -> Encoded:
        """The encoder's hidden states."""
        if inputs is None and inputs_embeds is None:
            raise InputError(
                "There is nothing to read: got neither input_ids nor inputs_embeds nor encoder_outputs.",
                "Pass the source as input_ids, or what model.get_encoder() made of it as encoder_outputs.",
            )
        return self.encoder.encode(
            inputs,
            attention_mask,
            inputs_embeds=inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )

    def shifted(self, labels: Tensor) -> Tensor:
        """Decoder inputs (B, T) that ask for the labels (B, T)."""
        return (self.spec.head.shift or shift_right)(labels, self.config)

    def _own_inputs(self, input_ids: Tensor | None) -> Tensor:
        if self.spec.head.own_inputs and input_ids is not None:
            return self.shifted(input_ids)
        raise InputError(
            "The decoder has no input: got neither decoder_input_ids nor decoder_inputs_embeds.",
            "Pass decoder_input_ids that begin with config.decoder_start_token_id, labels, or call model.generate().",
        )


def shift_right(labels: Tensor, config: PreTrainedConfig) -> Tensor:
    """Labels (B, T) moved right by one, behind the decoder's first token; padding where they are ignored."""
    start = getattr(config, "decoder_start_token_id", None)
    pad = config.pad_token_id
    if start is None or pad is None:
        missing = "decoder_start_token_id" if start is None else "pad_token_id"
        raise ConfigError(
            f"Labels become decoder inputs by config.{missing}, which is None.",
            f"Set model.config.{missing} to the tokenizer's, or pass decoder_input_ids.",
        )
    shifted = labels.new_full(labels.shape, start)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill(shifted == IGNORED, pad)


def as_output(encoder_outputs: Any) -> BaseModelOutput | None:
    """What was passed as encoder_outputs, an output of an encoder or a tuple of its values, under its names."""
    if encoder_outputs is None or isinstance(encoder_outputs, BaseModelOutput):
        return encoder_outputs
    if hasattr(encoder_outputs, "last_hidden_state"):
        names = ("hidden_states", "attentions")
        return BaseModelOutput(encoder_outputs.last_hidden_state, *(getattr(encoder_outputs, n, None) for n in names))
    if isinstance(encoder_outputs, Sequence) and encoder_outputs and isinstance(encoder_outputs[0], Tensor):
        return BaseModelOutput(*encoder_outputs[:3])
    raise InputError(
        f"encoder_outputs is a {type(encoder_outputs).__name__}.",
        "Pass what model.get_encoder()(…) returned, or a tuple that begins with its hidden states (B, S, W).",
    )
