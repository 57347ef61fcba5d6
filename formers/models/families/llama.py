"""Llama (Touvron et al., 2023), versions 1 to 3."""

from __future__ import annotations

from typing import Any

from formers.configuration import config_dataclass
from formers.errors import ConfigError
from formers.models.keys import Rename
from formers.models.rope import RotaryConfig, rotary
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class LlamaConfig(RotaryConfig):
    """Configuration of Llama."""

    model_type = "llama"

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pretraining_tp: int = 1
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False

    def settle(self) -> None:
        """Fill what the other values decide."""
        settle_heads(self)


def settle_heads(config: Any) -> None:
    """Key and value heads are as many as query heads, and heads divide the width, unless given."""
    if config.num_key_value_heads is None:
        config.num_key_value_heads = config.num_attention_heads
    if config.head_dim is None:
        config.head_dim = config.hidden_size // config.num_attention_heads


def spec(config: LlamaConfig) -> ModelSpec:
    """Llama in neutral terms."""
    return decoder_spec(config, attention_bias=config.attention_bias, ff_bias=config.mlp_bias)


def decoder_spec(config: Any, **values: Any) -> ModelSpec:
    """A decoder whose configuration has Llama's names; `values` are what it does differently."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    common: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "width": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_width": width,
        "ff_width": config.intermediate_size,
        "head": HeadSpec(dropout=token_dropout(config), decoder_bias=False),
        "norm": "rms",
        "norm_first": True,
        "embedding_norm": False,
        "pad_token_id": config.pad_token_id,
        "gated": True,
        "causal": True,
        "attention_bias": False,
        "ff_bias": False,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.initializer_range,
    }
    if "activation" not in values:
        common["activation"] = config.hidden_act
    if "norm_eps" not in values:
        common["norm_eps"] = config.rms_norm_eps
    if "rotary" not in values:
        common["rotary"] = (rotary(config, width),) * config.num_hidden_layers
    return ModelSpec(**{**common, **values})


def token_dropout(config: Any) -> float:
    """The dropout of heads that classify tokens."""
    given = (getattr(config, name, None) for name in ("classifier_dropout", "hidden_dropout"))
    return float(next((value for value in given if value is not None), 0.1))


def layer_windows(config: Any) -> tuple[int | None, ...] | None:
    """What each layer sees before a token, by its kind in `layer_types`."""
    kinds = config.layer_types[: config.num_hidden_layers]
    if len(kinds) < config.num_hidden_layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise ConfigError(
            f"layer_types is {config.layer_types!r} for {config.num_hidden_layers} layers.",
            "Name each layer 'full_attention' or 'sliding_attention', or leave layer_types out.",
        )
    if "sliding_attention" not in kinds or config.sliding_window is None:
        return None
    return tuple(config.sliding_window - 1 if kind == "sliding_attention" else None for kind in kinds)


RULES = (
    Rename("embed_tokens", "embeddings.tokens"),
    Rename("layers.{}.input_layernorm", "layers.{}.attn_norm"),
    Rename("layers.{}.post_attention_layernorm", "layers.{}.mlp_norm"),
)
HEADS = {
    "ForCausalLM": (Rename("lm_head", "head.output"),),
    "ForSequenceClassification": (Rename("score", "head.output"),),
    "ForTokenClassification": (Rename("score", "head.output"),),
    "ForQuestionAnswering": (Rename("qa_outputs", "head.output"),),
}
IGNORED = ("*rotary_emb.inv_freq",)

DEFINITIONS = {
    "llama": Definition(
        config=LlamaConfig,
        spec=spec,
        base_prefix="model",
        prefixes={"ForQuestionAnswering": "transformer"},
        rules=RULES,
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    )
}
