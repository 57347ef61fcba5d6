"""Qwen 2 (Yang et al., 2024) and Qwen 3 (Yang et al., 2025), dense and with experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from formers.configuration import config_dataclass
from formers.models.families.llama import HEADS, IGNORED, RULES, decoder_spec, layer_windows
from formers.models.families.mistral import check_router
from formers.models.keys import Rename
from formers.models.rope import RotaryConfig
from formers.models.spec import DECODER, Definition, Experts, ModelSpec


@config_dataclass
class Qwen2Config(RotaryConfig):
    """Configuration of Qwen 2."""

    model_type = "qwen2"

    vocab_size: int = 151936
    hidden_size: int = 4096
    intermediate_size: int = 22016
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 32
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None
    attention_dropout: float = 0.0

    def settle(self) -> None:
        """Fill what the other values decide."""
        self.sliding_window = self.sliding_window if self.use_sliding_window else None
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.layer_types is None:
            first = self.num_hidden_layers if self.sliding_window is None else self.max_window_layers
            kinds = ("full_attention", "sliding_attention")
            self.layer_types = [kinds[index >= first] for index in range(self.num_hidden_layers)]


@config_dataclass
class Qwen3Config(Qwen2Config):
    """Configuration of Qwen 3."""

    model_type = "qwen3"

    head_dim: int | None = 128
    attention_bias: bool = False


@config_dataclass
class Qwen3MoeConfig(RotaryConfig):
    """Configuration of Qwen 3 with experts."""

    model_type = "qwen3_moe"
    attribute_map: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}

    vocab_size: int = 151936
    hidden_size: int = 2048
    intermediate_size: int = 6144
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 4
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    attention_dropout: float = 0.0
    decoder_sparse_step: int = 1
    moe_intermediate_size: int = 768
    num_experts_per_tok: int = 8
    num_local_experts: int = 128
    norm_topk_prob: bool = False
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    mlp_only_layers: list[int] | None = None

    def settle(self) -> None:
        """Fill what the other values decide."""
        self.sliding_window = self.sliding_window if self.use_sliding_window else None
        self.mlp_only_layers = self.mlp_only_layers or []


def qwen2_spec(config: Qwen2Config) -> ModelSpec:
    """Qwen 2 in neutral terms: Llama with biases of queries, keys and values."""
    return decoder_spec(config, attention_bias=True, output_bias=False, windows=layer_windows(config))


def qwen3_spec(config: Qwen3Config) -> ModelSpec:
    """Qwen 3 in neutral terms: Llama with norms of queries and keys."""
    windows = layer_windows(config)
    return decoder_spec(config, attention_bias=config.attention_bias, query_key_norm="shared", windows=windows)


def moe_spec(config: Qwen3MoeConfig) -> ModelSpec:
    """Qwen 3 in neutral terms, with experts in most layers."""
    check_router(config)
    choice = Experts(
        config.num_local_experts, config.num_experts_per_tok, config.moe_intermediate_size, config.norm_topk_prob
    )
    dense: Any = config.mlp_only_layers
    layers = range(config.num_hidden_layers)
    experts = tuple(None if i in dense or (i + 1) % config.decoder_sparse_step else choice for i in layers)
    windows = None if config.sliding_window is None else (config.sliding_window - 1,) * config.num_hidden_layers
    return decoder_spec(
        config, attention_bias=config.attention_bias, query_key_norm="shared", windows=windows, experts=experts
    )


def _definition(config: type[RotaryConfig], spec: Any) -> Definition:
    return Definition(
        config=config,
        spec=spec,
        base_prefix="model",
        prefixes={"ForQuestionAnswering": "transformer"},
        rules=(*RULES, Rename("layers.{}.mlp.gate", "layers.{}.mlp.router")),
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    )


DEFINITIONS = {
    "qwen2": _definition(Qwen2Config, qwen2_spec),
    "qwen3": _definition(Qwen3Config, qwen3_spec),
    "qwen3_moe": _definition(Qwen3MoeConfig, moe_spec),
}
