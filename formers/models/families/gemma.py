"""Gemma (2024), Gemma 2 (2024) and the text model of Gemma 3 (2025), by the Gemma team."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import UnsupportedError
from formers.models.families.llama import HEADS, IGNORED, RULES, decoder_spec, layer_windows
from formers.models.keys import Rename
from formers.models.rope import RotaryConfig, rotary
from formers.models.spec import DECODER, Definition, ModelSpec

_FULL, _SLIDING = "full_attention", "sliding_attention"


@config_dataclass
class GemmaConfig(RotaryConfig):
    """Configuration of Gemma."""

    model_type = "gemma"

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int = 16
    head_dim: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    attention_bias: bool = False
    attention_dropout: float = 0.0
    use_bidirectional_attention: bool | None = None


@config_dataclass
class Gemma2Config(RotaryConfig):
    """Configuration of Gemma 2."""

    model_type = "gemma2"

    vocab_size: int = 256000
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    attention_bias: bool = False
    attention_dropout: float = 0.0
    query_pre_attn_scalar: float = 256
    sliding_window: int | None = 4096
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0
    use_bidirectional_attention: bool | None = None

    def settle(self) -> None:
        """Every second layer sees a window."""
        if self.layer_types is None:
            self.layer_types = [_FULL if index % 2 else _SLIDING for index in range(self.num_hidden_layers)]


@config_dataclass
class Gemma3TextConfig(PreTrainedConfig):
    """Configuration of the text model of Gemma 3."""

    model_type = "gemma3_text"

    vocab_size: int = 262_208
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 131_072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    query_pre_attn_scalar: float = 256
    sliding_window: int | None = 4096
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    use_bidirectional_attention: bool | None = False

    def settle(self) -> None:
        """Fill the kinds of layers and their rotations, from older names where a file has those."""
        every = self.extra.setdefault("_sliding_window_pattern", self.extra.get("sliding_window_pattern", 6))
        if self.layer_types is None:
            layers = range(1, self.num_hidden_layers + 1)
            self.layer_types = [_SLIDING if index % every else _FULL for index in layers]
        older: Mapping[str, Any] = self.extra.get("rope_scaling") or {}
        scaling = {"rope_type" if name == "type" else name: value for name, value in older.items()}
        given = self.rope_parameters or {}
        local = {"rope_type": "default", "rope_theta": self.extra.get("rope_local_base_freq", 10_000.0)}
        full = {"rope_type": "default", "rope_theta": self.extra.get("rope_theta", 1_000_000.0), **scaling}
        self.rope_parameters = {
            _SLIDING: {**local, **(given.get(_SLIDING) or {})},
            _FULL: {**full, **(given.get(_FULL) or {})},
        }


def spec(config: GemmaConfig) -> ModelSpec:
    """Gemma in neutral terms: Llama with scaled embeddings and norms around zero."""
    return _spec(config, activation=config.hidden_act)


def gemma2_spec(config: Gemma2Config) -> ModelSpec:
    """Gemma 2 in neutral terms: norms on both sides, bounded scores and logits, windows in every second layer."""
    return _spec(config, **_newer(config))


def gemma3_spec(config: Gemma3TextConfig) -> ModelSpec:
    """Gemma 3 in neutral terms: Gemma 2 with norms of queries and keys, and a rotation for each kind of layer."""
    kinds: Any = config.layer_types
    turns = {kind: rotary(config, config.head_dim, values) for kind, values in (config.rope_parameters or {}).items()}
    return _spec(config, query_key_norm="shared", rotary=tuple(turns[kind] for kind in kinds), **_newer(config))


def _newer(config: Any) -> dict[str, Any]:
    return {
        "activation": config.hidden_activation,
        "norm_outputs": True,
        "score_scale": config.query_pre_attn_scalar**-0.5,
        "score_cap": config.attn_logit_softcapping,
        "logit_cap": config.final_logit_softcapping,
        "windows": layer_windows(config),
    }


def _spec(config: Any, **values: Any) -> ModelSpec:
    if config.use_bidirectional_attention:
        raise UnsupportedError(
            "use_bidirectional_attention is not built for this family.", "Set it to False in the configuration."
        )
    return decoder_spec(
        config,
        norm="offset_rms",
        embedding_scale=config.hidden_size**0.5,
        attention_bias=config.attention_bias,
        **values,
    )


_BOTH_SIDES = (
    Rename("embed_tokens", "embeddings.tokens"),
    Rename("layers.{}.input_layernorm", "layers.{}.attn_norm"),
    Rename("layers.{}.post_attention_layernorm", "layers.{}.attn_output_norm"),
    Rename("layers.{}.pre_feedforward_layernorm", "layers.{}.mlp_norm"),
    Rename("layers.{}.post_feedforward_layernorm", "layers.{}.mlp_output_norm"),
)


def _definition(config: type[PreTrainedConfig], make: Any, rules: tuple[Rename, ...]) -> Definition:
    return Definition(
        config=config,
        spec=make,
        base_prefix="model",
        rules=rules,
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    )


DEFINITIONS = {
    "gemma": _definition(GemmaConfig, spec, RULES),
    "gemma2": _definition(Gemma2Config, gemma2_spec, _BOTH_SIDES),
    "gemma3_text": _definition(Gemma3TextConfig, gemma3_spec, _BOTH_SIDES),
}
