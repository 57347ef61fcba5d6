"""GPT-J (Wang and Komatsuzaki, 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.layers.rotary import Rotary
from formers.models.families.gpt2 import HEADS
from formers.models.keys import Rename
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class GPTJConfig(PreTrainedConfig):
    """Configuration of GPT-J."""

    model_type = "gptj"
    attribute_map: ClassVar[Mapping[str, str]] = {
        "max_position_embeddings": "n_positions",
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50400
    n_positions: int = 2048
    n_embd: int = 4096
    n_layer: int = 28
    n_head: int = 16
    rotary_dim: int | None = 64
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attn_pdrop: float = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    tie_word_embeddings: bool = False


def spec(config: GPTJConfig) -> ModelSpec:
    """GPT-J in neutral terms: attention and feed-forward side by side under one norm, neighbours turned together."""
    turn = Rotary(config.rotary_dim or config.n_embd // config.n_head, 10_000.0, interleaved=True)
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.n_embd,
        layers=config.n_layer,
        heads=config.n_head,
        ff_width=config.n_inner or 4 * config.n_embd,
        activation=config.activation_function,
        head=HeadSpec(dropout=0.1, decoder_bias=True),
        norm_eps=config.layer_norm_epsilon,
        norm_first=True,
        parallel=True,
        parallel_norms=1,
        embedding_norm=False,
        causal=True,
        attention_bias=False,
        rotary=(turn,) * config.n_layer,
        dropout=config.resid_pdrop,
        embedding_dropout=config.embd_pdrop,
        attention_dropout=config.attn_pdrop,
        initializer_range=config.initializer_range,
    )


DEFINITIONS = {
    "gptj": Definition(
        config=GPTJConfig,
        spec=spec,
        base_prefix="transformer",
        rules=(
            Rename("wte", "embeddings.tokens"),
            Rename("h.{}.ln_1", "layers.{}.attn_norm"),
            Rename("h.{}.attn.out_proj", "layers.{}.self_attn.o_proj"),
            Rename("h.{}.attn", "layers.{}.self_attn"),
            Rename("h.{}.mlp.fc_in", "layers.{}.mlp.up_proj"),
            Rename("h.{}.mlp.fc_out", "layers.{}.mlp.down_proj"),
            Rename("ln_f", "norm"),
        ),
        head_rules=HEADS,
        ignored=("*attn.bias", "*attn.masked_bias", "*attn.embed_positions"),
        architectures=DECODER,
    )
}
