"""GPT-NeoX (Black et al., 2022) and Pythia (Biderman et al., 2023)."""

from __future__ import annotations

from typing import Any, ClassVar

from formers.configuration import config_dataclass
from formers.models.families.gpt2 import HEADS
from formers.models.keys import Fuse, Rename, Rule
from formers.models.rope import RotaryConfig, rotary
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class GPTNeoXConfig(RotaryConfig):
    """Configuration of GPT-NeoX."""

    model_type = "gpt_neox"
    default_partial: ClassVar[float | None] = 0.25

    vocab_size: int = 50432
    hidden_size: int = 6144
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    intermediate_size: int = 24576
    hidden_act: str = "gelu"
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    classifier_dropout: float = 0.1
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    use_parallel_residual: bool = True
    attention_bias: bool = True

    def __init__(self, **values: Any) -> None:
        # The older names of this family alone.
        for older, newer in (("rotary_pct", "partial_rotary_factor"), ("rotary_emb_base", "rope_theta")):
            if older in values:
                values.setdefault(newer, values.pop(older))
        super().__init__(**values)


def spec(config: GPTNeoXConfig) -> ModelSpec:
    """GPT-NeoX in neutral terms: attention and feed-forward side by side, each under its own norm."""
    turn = rotary(config, config.hidden_size // config.num_attention_heads)
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ff_width=config.intermediate_size,
        activation=config.hidden_act,
        head=HeadSpec(dropout=config.classifier_dropout, decoder_bias=False),
        norm_eps=config.layer_norm_eps,
        norm_first=True,
        parallel=config.use_parallel_residual,
        embedding_norm=False,
        causal=True,
        attention_bias=config.attention_bias,
        rotary=(turn,) * config.num_hidden_layers,
        dropout=config.hidden_dropout,
        attention_dropout=config.attention_dropout,
        initializer_range=config.initializer_range,
    )


def _joint(config: GPTNeoXConfig) -> dict[str, tuple[Rule, ...]]:
    """Each head's query, key and value lie together."""
    parts = tuple(f"layers.{{}}.self_attn.{part}_proj" for part in "qkv")
    return {"Model": (Fuse("layers.{}.attention.query_key_value", parts, groups=config.num_attention_heads),)}


DEFINITIONS = {
    "gpt_neox": Definition(
        config=GPTNeoXConfig,
        spec=spec,
        base_prefix="gpt_neox",
        rules=(
            Rename("embed_in", "embeddings.tokens"),
            Rename("layers.{}.input_layernorm", "layers.{}.attn_norm"),
            Rename("layers.{}.attention.dense", "layers.{}.self_attn.o_proj"),
            Rename("layers.{}.post_attention_layernorm", "layers.{}.mlp_norm"),
            Rename("layers.{}.mlp.dense_h_to_4h", "layers.{}.mlp.up_proj"),
            Rename("layers.{}.mlp.dense_4h_to_h", "layers.{}.mlp.down_proj"),
            Rename("final_layer_norm", "norm"),
        ),
        configured_rules=_joint,
        head_rules={**HEADS, "ForCausalLM": (Rename("embed_out", "head.output"),)},
        ignored=("*attention.bias", "*attention.masked_bias", "*rotary_emb.inv_freq"),
        architectures=DECODER,
    )
}
