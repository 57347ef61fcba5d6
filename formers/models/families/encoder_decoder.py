"""An encoder and a decoder with cross-attention (Rothe et al., 2019): BERT with GPT-2, or BERT twice, for example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import ConfigError
from formers.models.keys import Rename, Rule, prefixed
from formers.models.spec import Definition, ModelSpec


def _config(values: Any, half: str) -> PreTrainedConfig:
    from formers.models.auto import AutoConfig

    if isinstance(values, PreTrainedConfig):
        return values
    if not isinstance(values, Mapping) or "model_type" not in values:
        raise ConfigError(
            f"The configuration of an encoder–decoder names no {half}.",
            "Use EncoderDecoderConfig.from_encoder_decoder_configs(encoder_config, decoder_config).",
        )
    return AutoConfig.for_model(**values)


@config_dataclass
class EncoderDecoderConfig(PreTrainedConfig):
    """The configurations of an encoder and of a decoder."""

    model_type = "encoder-decoder"

    encoder: Any = None
    decoder: Any = None
    is_encoder_decoder: bool = True
    decoder_start_token_id: int | None = None

    def settle(self) -> None:
        """Both halves as configurations; without any, those of BERT."""
        if self.encoder is None and self.decoder is None:
            self.encoder = {"model_type": "bert"}
            self.decoder = {"model_type": "bert", "is_decoder": True, "add_cross_attention": True}
        self.encoder, self.decoder = _config(self.encoder, "encoder"), _config(self.decoder, "decoder")

    @property
    def vocab_size(self) -> int:
        """That of the decoder."""
        size: int = self.decoder.vocab_size
        return size

    def to_dict(self) -> dict[str, Any]:
        """All values, as `config.json` holds them."""
        return {**super().to_dict(), "encoder": self.encoder.to_dict(), "decoder": self.decoder.to_dict()}

    @classmethod
    def from_encoder_decoder_configs(
        cls, encoder_config: PreTrainedConfig, decoder_config: PreTrainedConfig, **values: Any
    ) -> EncoderDecoderConfig:
        """That of two models; the decoder's is told that it is one, with cross-attention."""
        decoder = {**decoder_config.to_dict(), "is_decoder": True, "add_cross_attention": True}
        return cls(encoder=encoder_config.to_dict(), decoder=decoder, **values)


def _definition(config: PreTrainedConfig) -> Definition:
    from formers.models.auto import definition

    return definition(config.model_type)


def _decoder(config: PreTrainedConfig) -> tuple[Definition, str]:
    """The definition of a decoder, and the head of it that gives logits."""
    from formers.models.auto import decoder_heads

    whole, (bare, head) = _definition(config), decoder_heads(config.model_type)
    return whole.halves.get(bare, whole), head


def spec(config: EncoderDecoderConfig) -> ModelSpec:
    """The decoder in neutral terms, with the encoder's beside it."""
    family, head = _decoder(config.decoder)
    decoder = family.spec(config.decoder)
    if decoder.cross_width is None or head not in family.architectures:
        raise ConfigError(
            f"A {config.decoder.model_type!r} decoder has no cross-attention here.",
            "Use BERT or GPT-2 as the decoder, with is_decoder=True and add_cross_attention=True.",
        )
    return replace(
        decoder,
        encoder=_definition(config.encoder).spec(config.encoder),
        own_embeddings=True,
        shared_embeddings=config.decoder.tie_word_embeddings,
    )


def rules(config: EncoderDecoderConfig) -> Mapping[str, Sequence[Rule]]:
    """Each half has its own family's keys."""
    encoder, (decoder, head) = _definition(config.encoder), _decoder(config.decoder)

    def own(family: Definition, values: PreTrainedConfig) -> list[Rule]:
        configured = family.configured_rules(values) if family.configured_rules else {}
        return [*family.rules, *configured.get("Model", ())]

    return {
        "Model": [
            *prefixed(own(encoder, config.encoder), "encoder.", "encoder."),
            *prefixed(own(decoder, config.decoder), f"decoder.{decoder.base_prefix}.", "decoder."),
        ],
        "EncoderDecoderModel": [
            *prefixed(decoder.head_rules[head], "decoder.", ""),
            Rename("enc_to_dec_proj", "model.projection"),
        ],
    }


DEFINITIONS = {
    "encoder-decoder": Definition(
        config=EncoderDecoderConfig,
        spec=spec,
        base_prefix="",
        rules=(),
        configured_rules=rules,
        architectures={"EncoderDecoderModel": "EncoderDecoder", "Model": "Joined"},
    )
}
