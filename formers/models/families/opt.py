"""OPT (Zhang et al., 2022)."""

from __future__ import annotations

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import UnsupportedError
from formers.models.families.gpt2 import HEADS
from formers.models.keys import Rename
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class OPTConfig(PreTrainedConfig):
    """Configuration of OPT."""

    model_type = "opt"

    vocab_size: int = 50272
    hidden_size: int = 768
    num_hidden_layers: int = 12
    ffn_dim: int = 3072
    max_position_embeddings: int = 2048
    do_layer_norm_before: bool = True
    _remove_final_layer_norm: bool = False
    word_embed_proj_dim: int | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    num_attention_heads: int = 12
    activation_function: str = "relu"
    layerdrop: float = 0.0
    init_std: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 2
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True

    def settle(self) -> None:
        """Embeddings are as wide as the model unless given."""
        if self.word_embed_proj_dim is None:
            self.word_embed_proj_dim = self.hidden_size


def spec(config: OPTConfig) -> ModelSpec:
    """OPT in neutral terms: GPT-2 whose positions start at 2."""
    if config.word_embed_proj_dim != config.hidden_size or not config.layer_norm_elementwise_affine:
        raise UnsupportedError(
            "Embeddings of another width than the model's (opt-350m), and norms without weights, are not built.",
            "Use a checkpoint with word_embed_proj_dim equal to hidden_size.",
        )
    if config.layerdrop:
        raise UnsupportedError(
            f"layerdrop={config.layerdrop} asks for layers left out in training, which is not built.",
            "Set layerdrop=0.0 in the configuration.",
        )
    first = config.do_layer_norm_before
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ff_width=config.ffn_dim,
        activation=config.activation_function,
        head=HeadSpec(dropout=0.1, decoder_bias=False),
        norm_eps=1e-5,
        norm_first=first,
        final_norm=first and not config._remove_final_layer_norm,
        embedding_norm=False,
        positions=config.max_position_embeddings + 2,
        positions_after=1,
        pad_token_id=config.pad_token_id,
        causal=True,
        attention_bias=config.enable_bias,
        ff_bias=config.enable_bias,
        dropout=config.dropout,
        embedding_dropout=0.0,
        attention_dropout=config.attention_dropout,
        initializer_range=config.init_std,
    )


_LAYER = "decoder.layers.{}."

DEFINITIONS = {
    "opt": Definition(
        config=OPTConfig,
        spec=spec,
        base_prefix="model",
        rules=(
            Rename("decoder.embed_tokens", "embeddings.tokens"),
            Rename("decoder.embed_positions", "embeddings.positions"),
            Rename(_LAYER + "self_attn.out_proj", "layers.{}.self_attn.o_proj"),
            Rename(_LAYER + "self_attn", "layers.{}.self_attn"),
            Rename(_LAYER + "self_attn_layer_norm", "layers.{}.attn_norm"),
            Rename(_LAYER + "fc1", "layers.{}.mlp.up_proj"),
            Rename(_LAYER + "fc2", "layers.{}.mlp.down_proj"),
            Rename(_LAYER + "final_layer_norm", "layers.{}.mlp_norm"),
            Rename("decoder.final_layer_norm", "norm"),
        ),
        head_rules=HEADS,
        architectures=DECODER,
    )
}
