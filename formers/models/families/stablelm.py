"""StableLM (Bellagente et al., 2024)."""

from __future__ import annotations

from typing import ClassVar

from formers.configuration import config_dataclass
from formers.models.families.llama import HEADS, IGNORED, RULES, decoder_spec
from formers.models.keys import Rename
from formers.models.rope import RotaryConfig
from formers.models.spec import DECODER, Definition, ModelSpec


@config_dataclass
class StableLmConfig(RotaryConfig):
    """Configuration of StableLM."""

    model_type = "stablelm"
    default_partial: ClassVar[float | None] = 0.25

    vocab_size: int = 50304
    intermediate_size: int = 6912
    hidden_size: int = 2560
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    hidden_act: str = "silu"
    max_position_embeddings: int = 4096
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    use_qkv_bias: bool = False
    qk_layernorm: bool = False
    use_parallel_residual: bool = False
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0


def spec(config: StableLmConfig) -> ModelSpec:
    """StableLM in neutral terms: Llama with other norms and part of each head turned."""
    return decoder_spec(
        config,
        norm="layer",
        norm_eps=config.layer_norm_eps,
        parallel=config.use_parallel_residual,
        parallel_norms=1,
        attention_bias=config.use_qkv_bias,
        output_bias=False,
        query_key_norm="each" if config.qk_layernorm else None,
        embedding_dropout=0.0,
        attention_output_dropout=0.0,
        ff_output_dropout=config.hidden_dropout,
    )


DEFINITIONS = {
    "stablelm": Definition(
        config=StableLmConfig,
        spec=spec,
        base_prefix="model",
        rules=(
            *RULES,
            Rename("layers.{}.self_attn.q_layernorm", "layers.{}.self_attn.q_norm"),
            Rename("layers.{}.self_attn.k_layernorm", "layers.{}.self_attn.k_norm"),
        ),
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    )
}
