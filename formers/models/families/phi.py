"""Phi 1 to 2 (Gunasekar et al., 2023) and Phi 3 (Abdin et al., 2024)."""

from __future__ import annotations

from typing import Any, ClassVar

from formers.configuration import config_dataclass
from formers.models.families.llama import HEADS, IGNORED, RULES, decoder_spec, token_dropout
from formers.models.keys import Fuse, Rename, Rule
from formers.models.rope import RotaryConfig
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class PhiConfig(RotaryConfig):
    """Configuration of Phi."""

    model_type = "phi"
    default_partial: ClassVar[float | None] = 0.5

    vocab_size: int = 51200
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attention_dropout: float = 0.0
    hidden_act: str = "gelu_new"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    qk_layernorm: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def settle(self) -> None:
        """Key and value heads are as many as query heads unless given."""
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads


@config_dataclass
class Phi3Config(RotaryConfig):
    """Configuration of Phi 3."""

    model_type = "phi3"
    default_partial: ClassVar[float | None] = 1.0

    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attention_dropout: float = 0.0
    hidden_act: str = "silu"
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 4096
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 32000
    pad_token_id: int | None = 32000
    sliding_window: int | None = None

    def settle(self) -> None:
        """Key and value heads are as many as query heads unless given."""
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads


def spec(config: PhiConfig) -> ModelSpec:
    """Phi in neutral terms: attention and feed-forward side by side under one norm."""
    return decoder_spec(
        config,
        head=HeadSpec(dropout=token_dropout(config), decoder_bias=True),
        norm="layer",
        norm_eps=config.layer_norm_eps,
        parallel=True,
        parallel_norms=1,
        gated=False,
        attention_bias=True,
        ff_bias=True,
        query_key_norm="shared" if config.qk_layernorm else None,
        dropout=config.resid_pdrop,
        embedding_dropout=config.embd_pdrop,
    )


def phi3_spec(config: Phi3Config) -> ModelSpec:
    """Phi 3 in neutral terms: Llama, with joint projections in its files."""
    window = config.sliding_window
    windows = None if window is None else (window - 1,) * config.num_hidden_layers
    return decoder_spec(config, dropout=config.resid_pdrop, embedding_dropout=0.0, windows=windows)


def _joint(config: Phi3Config) -> dict[str, tuple[Rule, ...]]:
    heads, shared = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    parts = tuple(f"layers.{{}}.self_attn.{part}_proj" for part in "qkv")
    return {"Model": (Fuse("layers.{}.self_attn.qkv_proj", parts, sizes=(heads, shared, shared)),)}


_LAYER = "layers.{}."
_RULES: Any = (
    Rename("embed_tokens", "embeddings.tokens"),
    Rename(_LAYER + "input_layernorm", _LAYER + "attn_norm"),
    Rename(_LAYER + "self_attn.dense", _LAYER + "self_attn.o_proj"),
    Rename(_LAYER + "self_attn.q_layernorm", _LAYER + "self_attn.q_norm"),
    Rename(_LAYER + "self_attn.k_layernorm", _LAYER + "self_attn.k_norm"),
    Rename(_LAYER + "mlp.fc1", _LAYER + "mlp.up_proj"),
    Rename(_LAYER + "mlp.fc2", _LAYER + "mlp.down_proj"),
    Rename("final_layernorm", "norm"),
)

DEFINITIONS = {
    "phi": Definition(
        config=PhiConfig,
        spec=spec,
        base_prefix="model",
        rules=_RULES,
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    ),
    "phi3": Definition(
        config=Phi3Config,
        spec=phi3_spec,
        base_prefix="model",
        rules=(*RULES, Fuse(_LAYER + "mlp.gate_up_proj", (_LAYER + "mlp.gate_proj", _LAYER + "mlp.up_proj"))),
        configured_rules=_joint,
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    ),
}
