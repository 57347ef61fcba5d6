"""Falcon (Almazrouei et al., 2023)."""

from __future__ import annotations

import torch

from formers.configuration import config_dataclass
from formers.models.families.bloom import slopes
from formers.models.families.gpt2 import HEADS
from formers.models.families.llama import token_dropout
from formers.models.keys import Fuse, Rename, Rule
from formers.models.rope import RotaryConfig, rotary
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class FalconConfig(RotaryConfig):
    """Configuration of Falcon."""

    model_type = "falcon"

    vocab_size: int = 65024
    hidden_size: int = 4544
    num_hidden_layers: int = 32
    num_attention_heads: int = 71
    num_ln_in_parallel_attn: int | None = None
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    num_kv_heads: int | None = None
    alibi: bool = False
    new_decoder_architecture: bool = False
    multi_query: bool = True
    parallel_attn: bool = True
    bias: bool = False
    max_position_embeddings: int = 2048
    bos_token_id: int | None = 11
    eos_token_id: int | list[int] | None = 11
    ffn_hidden_size: int | None = None
    activation: str = "gelu"

    def settle(self) -> None:
        """Fill what the other values decide."""
        if self.num_kv_heads is None:
            self.num_kv_heads = self.num_attention_heads
        if self.ffn_hidden_size is None:
            self.ffn_hidden_size = 4 * self.hidden_size


def _key_heads(config: FalconConfig) -> int:
    if config.new_decoder_architecture:
        return config.num_kv_heads or config.num_attention_heads
    return 1 if config.multi_query else config.num_attention_heads


def _norms(config: FalconConfig) -> int:
    """How many norms stand before attention and feed-forward side by side."""
    return config.num_ln_in_parallel_attn or (2 if config.new_decoder_architecture else 1)


def spec(config: FalconConfig) -> ModelSpec:
    """Falcon in neutral terms."""
    width = config.hidden_size // config.num_attention_heads
    turn = None if config.alibi else (rotary(config, width),) * config.num_hidden_layers
    parallel = config.parallel_attn or config.new_decoder_architecture
    # The slopes are rounded to bfloat16, and scaled as the scores are.
    steep = torch.tensor(slopes(config.num_attention_heads), device="cpu").bfloat16().float() * width**-0.5
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=_key_heads(config),
        ff_width=config.ffn_hidden_size or 4 * config.hidden_size,
        activation=config.activation,
        head=HeadSpec(dropout=token_dropout(config), decoder_bias=False),
        norm_eps=config.layer_norm_epsilon,
        norm_first=True,
        parallel=parallel,
        parallel_norms=_norms(config),
        embedding_norm=False,
        causal=True,
        attention_bias=config.bias,
        ff_bias=config.bias,
        rotary=turn,
        slopes=tuple(steep.tolist()) if config.alibi else None,
        dropout=config.hidden_dropout,
        embedding_dropout=0.0,
        attention_dropout=config.attention_dropout if config.alibi else 0.0,
        attention_output_dropout=config.hidden_dropout if parallel else config.attention_dropout,
        initializer_range=config.initializer_range,
    )


def _configured(config: FalconConfig) -> dict[str, tuple[Rule, ...]]:
    """Each key head lies together with its queries; a norm's name says how many there are."""
    shared = _key_heads(config)
    each = config.num_attention_heads // shared
    parts = tuple(f"layers.{{}}.self_attn.{part}_proj" for part in "qkv")
    joint = Fuse("h.{}.self_attention.query_key_value", parts, sizes=(each, 1, 1), groups=shared)
    two = config.parallel_attn and _norms(config) == 2
    names = ("ln_attn", "ln_mlp") if two else ("input_layernorm", "post_attention_layernorm")
    norms = (Rename("h.{}." + names[0], "layers.{}.attn_norm"), Rename("h.{}." + names[1], "layers.{}.mlp_norm"))
    return {"Model": (joint, *norms)}


DEFINITIONS = {
    "falcon": Definition(
        config=FalconConfig,
        spec=spec,
        base_prefix="transformer",
        rules=(
            Rename("word_embeddings", "embeddings.tokens"),
            Rename("h.{}.self_attention.dense", "layers.{}.self_attn.o_proj"),
            Rename("h.{}.mlp.dense_h_to_4h", "layers.{}.mlp.up_proj"),
            Rename("h.{}.mlp.dense_4h_to_h", "layers.{}.mlp.down_proj"),
            Rename("ln_f", "norm"),
        ),
        configured_rules=_configured,
        head_rules=HEADS,
        ignored=("*rotary_emb.inv_freq",),
        architectures=DECODER,
    )
}
