"""Mistral (Jiang et al., 2023): Llama with a sliding window. Mixtral (Jiang et al., 2024): with experts besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from formers.configuration import config_dataclass
from formers.errors import UnsupportedError
from formers.models.families.llama import HEADS, IGNORED, RULES, decoder_spec, settle_heads
from formers.models.keys import Rename
from formers.models.rope import RotaryConfig
from formers.models.spec import DECODER, Definition, Experts, ModelSpec


@config_dataclass
class MistralConfig(RotaryConfig):
    """Configuration of Mistral."""

    model_type = "mistral"

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 8
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 4096 * 32
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    sliding_window: int | None = 4096
    attention_dropout: float = 0.0

    def settle(self) -> None:
        """Fill what the other values decide."""
        settle_heads(self)


@config_dataclass
class MixtralConfig(RotaryConfig):
    """Configuration of Mixtral."""

    model_type = "mixtral"
    attribute_map: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    default_theta: ClassVar[float] = 1_000_000.0

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 8
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 4096 * 32
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    sliding_window: int | None = None
    attention_dropout: float = 0.0
    num_experts_per_tok: int = 2
    num_local_experts: int = 8
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    router_jitter_noise: float = 0.0

    def settle(self) -> None:
        """Key and value heads are as many as query heads unless given."""
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads


def spec(config: Any) -> ModelSpec:
    """Mistral in neutral terms: every layer sees the same window."""
    window = config.sliding_window
    windows = None if window is None else (window - 1,) * config.num_hidden_layers
    return decoder_spec(config, windows=windows)


def check_router(config: Any) -> None:
    """UnsupportedError where a configuration asks more of the choice of experts than the choice."""
    if config.output_router_logits or getattr(config, "router_jitter_noise", 0.0):
        raise UnsupportedError(
            "The router's logits, the loss on them and its noise are not built.",
            "Set output_router_logits=False and router_jitter_noise=0.0 in the configuration.",
        )


def mixtral_spec(config: MixtralConfig) -> ModelSpec:
    """Mixtral in neutral terms: Mistral whose feed-forward layers are a choice of experts."""
    check_router(config)
    experts = Experts(config.num_local_experts, config.num_experts_per_tok, config.intermediate_size)
    return replace(spec(config), experts=(experts,) * config.num_hidden_layers)


_EXPERT = "layers.{}.block_sparse_moe.experts.{}."

DEFINITIONS = {
    "mistral": Definition(
        config=MistralConfig,
        spec=spec,
        base_prefix="model",
        rules=RULES,
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    ),
    "mixtral": Definition(
        config=MixtralConfig,
        spec=mixtral_spec,
        base_prefix="model",
        rules=(
            *RULES,
            Rename("layers.{}.block_sparse_moe.gate", "layers.{}.mlp.router"),
            Rename(_EXPERT + "w1", "layers.{}.mlp.experts.{}.gate_proj"),
            Rename(_EXPERT + "w2", "layers.{}.mlp.experts.{}.down_proj"),
            Rename(_EXPERT + "w3", "layers.{}.mlp.experts.{}.up_proj"),
        ),
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    ),
}
