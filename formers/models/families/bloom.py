"""BLOOM (Le Scao et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import UnsupportedError
from formers.models.families.gpt2 import HEADS
from formers.models.families.llama import token_dropout
from formers.models.keys import Fuse, Rename, Rule
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class BloomConfig(PreTrainedConfig):
    """Configuration of BLOOM."""

    model_type = "bloom"
    attribute_map: ClassVar[Mapping[str, str]] = {
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "n_embed": "hidden_size",
    }

    vocab_size: int = 250880
    hidden_size: int = 64
    n_layer: int = 2
    n_head: int = 8
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    apply_residual_connection_post_layernorm: bool = False
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    pretraining_tp: int = 1
    slow_but_exact: bool = False


def slopes(heads: int) -> tuple[float, ...]:
    """The slopes of ALiBi (Press et al., 2021): a geometric sequence, filled up from the next one in between."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2.0 ** (-8.0 * place / power) for place in range(1, power + 1)]
    between = [2.0 ** (-4.0 * place / power) for place in range(1, 2 * (heads - power) + 1, 2)]
    return (*first, *between)


def spec(config: BloomConfig) -> ModelSpec:
    """BLOOM in neutral terms: GPT-2 with a norm after the embeddings, and slopes instead of positions."""
    if config.apply_residual_connection_post_layernorm:
        raise UnsupportedError(
            "Residuals taken after the norms are not built for BLOOM.",
            "Set apply_residual_connection_post_layernorm to False.",
        )
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.n_layer,
        heads=config.n_head,
        ff_width=4 * config.hidden_size,
        activation="gelu_pytorch_tanh",
        head=HeadSpec(dropout=token_dropout(config), decoder_bias=False),
        norm_eps=config.layer_norm_epsilon,
        norm_first=True,
        causal=True,
        slopes=slopes(config.n_head),
        dropout=config.hidden_dropout,
        embedding_dropout=0.0,
        attention_dropout=config.attention_dropout,
        initializer_range=config.initializer_range,
    )


def _joint(config: BloomConfig) -> dict[str, tuple[Rule, ...]]:
    """Each head's query, key and value lie together."""
    parts = tuple(f"layers.{{}}.self_attn.{part}_proj" for part in "qkv")
    return {"Model": (Fuse("h.{}.self_attention.query_key_value", parts, groups=config.n_head),)}


DEFINITIONS = {
    "bloom": Definition(
        config=BloomConfig,
        spec=spec,
        base_prefix="transformer",
        rules=(
            Rename("word_embeddings", "embeddings.tokens"),
            Rename("word_embeddings_layernorm", "embeddings.norm"),
            Rename("h.{}.input_layernorm", "layers.{}.attn_norm"),
            Rename("h.{}.self_attention.dense", "layers.{}.self_attn.o_proj"),
            Rename("h.{}.post_attention_layernorm", "layers.{}.mlp_norm"),
            Rename("h.{}.mlp.dense_h_to_4h", "layers.{}.mlp.up_proj"),
            Rename("h.{}.mlp.dense_4h_to_h", "layers.{}.mlp.down_proj"),
            Rename("ln_f", "norm"),
        ),
        configured_rules=_joint,
        head_rules=HEADS,
        architectures=DECODER,
    )
}
