"""Encoder–decoders with BART's parts and fixed positions: Marian, Pegasus (Zhang et al., 2019), M2M100 and NLLB."""

from __future__ import annotations

from dataclasses import replace

from formers.configuration import config_dataclass
from formers.layers.positions import UNBOUNDED
from formers.models.families.bart import BartLikeConfig, bart, bart_spec
from formers.models.spec import ModelSpec


@config_dataclass
class MarianConfig(BartLikeConfig):
    """Configuration of Marian."""

    model_type = "marian"

    vocab_size: int = 58101
    decoder_vocab_size: int | None = None
    decoder_start_token_id: int | None = 58100
    pad_token_id: int | None = 58100
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 0
    forced_eos_token_id: int | list[int] | None = 0
    share_encoder_decoder_embeddings: bool = True

    def settle(self) -> None:
        """The decoder has the encoder's vocabulary unless it has one of its own."""
        self.decoder_vocab_size = self.decoder_vocab_size or self.vocab_size


@config_dataclass
class PegasusConfig(BartLikeConfig):
    """Configuration of Pegasus."""

    model_type = "pegasus"

    decoder_start_token_id: int | None = 0
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 1
    forced_eos_token_id: int | list[int] | None = 1


@config_dataclass
class M2M100Config(BartLikeConfig):
    """Configuration of M2M100 (Fan et al., 2020) and NLLB (2022)."""

    model_type = "m2m_100"

    vocab_size: int = 128112
    encoder_layerdrop: float = 0.05
    decoder_layerdrop: float = 0.05
    activation_function: str = "relu"
    attention_dropout: float = 0.1
    scale_embedding: bool = True
    forced_eos_token_id: int | list[int] | None = None


def marian_spec(config: MarianConfig) -> ModelSpec:
    """Marian in neutral terms: source and target may have vocabularies of their own."""
    spec = bart_spec(config, embedding_norm=False, sinusoids="stored")
    if config.share_encoder_decoder_embeddings or config.decoder_vocab_size is None:
        return spec
    return replace(spec, vocab_size=config.decoder_vocab_size, own_embeddings=True)


def pegasus_spec(config: PegasusConfig) -> ModelSpec:
    """Pegasus in neutral terms: norms come first."""
    return bart_spec(config, norm_first=True, embedding_norm=False, sinusoids="stored")


def m2m_100_spec(config: M2M100Config) -> ModelSpec:
    """M2M100 in neutral terms: norms come first, and positions follow that of padding, without an end."""
    spec = bart_spec(
        config,
        norm_first=True,
        embedding_norm=False,
        sinusoids="computed",
        positions=UNBOUNDED,
        positions_after=config.pad_token_id,
    )
    return replace(spec, head=replace(spec.head, logits_bias=False))


POSITIONS = ("*embed_positions.weight",)

DEFINITIONS = {
    "m2m_100": bart(M2M100Config, m2m_100_spec),
    "marian": bart(MarianConfig, marian_spec, POSITIONS, {"MTModel": POSITIONS}),
    "pegasus": bart(PegasusConfig, pegasus_spec, POSITIONS),
}
