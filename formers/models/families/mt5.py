"""Multilingual T5: mT5 (Xue et al., 2020) and UMT5 (Chung et al., 2023)."""

from __future__ import annotations

from formers.configuration import config_dataclass
from formers.models.families.t5 import T5LikeConfig, t5, t5_spec
from formers.models.spec import ModelSpec


@config_dataclass
class MT5Config(T5LikeConfig):
    """Configuration of mT5."""

    model_type = "mt5"

    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward_proj: str = "gated-gelu"
    decoder_start_token_id: int | None = 0


@config_dataclass
class UMT5Config(T5LikeConfig):
    """Configuration of UMT5."""

    model_type = "umt5"

    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward_proj: str = "gated-gelu"
    decoder_start_token_id: int | None = 0


def spec(config: MT5Config) -> ModelSpec:
    """MT5 in neutral terms."""
    return t5_spec(config, scaled=False, biases=False)


def umt5_spec(config: UMT5Config) -> ModelSpec:
    """UMT5 in neutral terms: every layer has relative biases of its own."""
    return t5_spec(config, scaled=config.tie_word_embeddings, biases=True)


DEFINITIONS = {"mt5": t5(MT5Config, spec), "umt5": t5(UMT5Config, umt5_spec, biases=True)}
