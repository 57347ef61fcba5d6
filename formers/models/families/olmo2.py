"""OLMo 2 (OLMo team, 2024)."""

from __future__ import annotations

from formers.configuration import config_dataclass
from formers.models.families.llama import HEADS, IGNORED, decoder_spec
from formers.models.keys import Rename
from formers.models.rope import RotaryConfig
from formers.models.spec import DECODER, Definition, ModelSpec


@config_dataclass
class Olmo2Config(RotaryConfig):
    """Configuration of OLMo 2."""

    model_type = "olmo2"

    vocab_size: int = 50304
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 50279
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    attention_dropout: float = 0.0
    rms_norm_eps: float = 1e-5

    def settle(self) -> None:
        """Key and value heads are as many as query heads unless given."""
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads


def spec(config: Olmo2Config) -> ModelSpec:
    """OLMo 2 in neutral terms: Llama with its norms behind each half, and over all queries and keys."""
    return decoder_spec(
        config,
        norm_first=False,
        norm_outputs=True,
        final_norm=True,
        query_key_norm="whole",
        attention_bias=config.attention_bias,
    )


DEFINITIONS = {
    "olmo2": Definition(
        config=Olmo2Config,
        spec=spec,
        base_prefix="model",
        rules=(
            Rename("embed_tokens", "embeddings.tokens"),
            Rename("layers.{}.post_attention_layernorm", "layers.{}.attn_output_norm"),
            Rename("layers.{}.post_feedforward_layernorm", "layers.{}.mlp_output_norm"),
        ),
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    )
}
