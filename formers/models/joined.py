"""An encoder and a decoder of different families as one model."""

from __future__ import annotations

from os import PathLike
from typing import Any, TypeVar

from torch import Tensor

from formers.configuration import PreTrainedConfig
from formers.errors import InputError
from formers.layers.cross import CrossMemory
from formers.layers.linear import Linear
from formers.models.base import PreTrainedModel
from formers.models.seq2seq import Seq2SeqModel
from formers.models.seq2seq_heads import Seq2SeqForConditionalGeneration
from formers.outputs import BaseModelOutput

_Self = TypeVar("_Self", bound="EncoderDecoder")


class JoinedModel(Seq2SeqModel):
    """The two halves, without a head; the encoder's states are projected where the decoder is of another width."""

    def __init__(self, config: PreTrainedConfig) -> None:
        from formers.models.auto import decoder_heads, model_class

        PreTrainedModel.__init__(self, config)
        values: Any = config
        encoder_class: Any = model_class(values.encoder.model_type, "Model")
        decoder_class: Any = model_class(values.decoder.model_type, decoder_heads(values.decoder.model_type)[0])
        self.encoder, self.decoder = encoder_class(values.encoder), decoder_class(values.decoder)
        widths = self.encoder.spec.width, self.decoder.spec.width
        self.projection = None if widths[0] == self.decoder.spec.cross_width else Linear(*widths)
        self.post_init()

    def read(
        self,
        inputs: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None = None,
        encoded: BaseModelOutput | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> tuple[CrossMemory, BaseModelOutput]:
        """As in Seq2SeqModel, projected."""
        memory, output = super().read(
            inputs, attention_mask, inputs_embeds, encoded, output_attentions, output_hidden_states
        )
        if self.projection is not None and memory.states is not None:
            memory.states = self.projection(memory.states)
        return memory, output


class EncoderDecoder(Seq2SeqForConditionalGeneration):
    """Vocabulary logits (B, T, V) of a decoder that reads an encoder of another family. `labels` (B, T)."""

    @classmethod
    def from_encoder_decoder_pretrained(
        cls: type[_Self],
        encoder_pretrained_model_name_or_path: str | PathLike[str],
        decoder_pretrained_model_name_or_path: str | PathLike[str],
        **values: Any,
    ) -> _Self:
        """A model of two models' weights, its cross-attention new; keywords are values of its configuration.

        Those that begin with encoder_ or decoder_ (but decoder_start_token_id) are values of that half's.
        """
        from formers.models.auto import AutoConfig, decoder_heads, model_class

        names = encoder_pretrained_model_name_or_path, decoder_pretrained_model_name_or_path
        own: dict[str, dict[str, Any]] = {"encoder": {}, "decoder": {}}
        for name in [each for each in values if each != "decoder_start_token_id"]:
            half, _, value = name.partition("_")
            if value in ("model", "config") and half in own:
                raise InputError(f"{name}= was given.", f"Save it into a folder, and pass that as the {half}.")
            if value and half in own:
                own[half][value] = values.pop(name)
        configs = [AutoConfig.from_pretrained(name, **own[half]) for name, half in zip(names, own, strict=True)]
        joined: Any = cls.config_class
        model = cls(joined.from_encoder_decoder_configs(*configs, **values))
        config: Any = model.config
        halves = (config.encoder, "Model"), (config.decoder, decoder_heads(config.decoder.model_type)[1])
        encoder, decoder = (
            model_class(half.model_type, head).from_pretrained(name, config=half)
            for name, (half, head) in zip(names, halves, strict=True)
        )
        model.model.encoder, model.model.decoder, model.head = encoder, decoder.model, decoder.head
        model.tie_weights()
        return model.eval()
