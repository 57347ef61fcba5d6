"""GPT-Neo (Black et al., 2021): GPT-2 with windows in every second layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import ConfigError
from formers.models.families.gpt2 import HEADS
from formers.models.keys import Rename
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class GPTNeoConfig(PreTrainedConfig):
    """Configuration of GPT-Neo."""

    model_type = "gpt_neo"
    attribute_map: ClassVar[Mapping[str, str]] = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}

    vocab_size: int = 50257
    max_position_embeddings: int = 2048
    hidden_size: int = 2048
    num_layers: int = 24
    attention_types: list[Any] | None = None
    num_heads: int = 16
    intermediate_size: int | None = None
    window_size: int = 256
    activation_function: str = "gelu_new"
    resid_dropout: float = 0.0
    embed_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    attention_layers: list[str] | None = None

    def settle(self) -> None:
        """Spell the kinds of layers out, one a layer."""
        if self.attention_types is None:
            self.attention_types = [[["global", "local"], 12]]
        self.attention_layers = [kind for kinds, times in self.attention_types for _ in range(times) for kind in kinds]


def spec(config: GPTNeoConfig) -> ModelSpec:
    """GPT-Neo in neutral terms."""
    kinds = config.attention_layers or []
    if len(kinds) != config.num_layers or not set(kinds) <= {"global", "local"}:
        raise ConfigError(
            f"attention_types name {len(kinds)} layers of kinds {sorted(set(kinds))}; there are {config.num_layers}.",
            "Name each layer 'global' or 'local', as in [[['global', 'local'], 12]].",
        )
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_layers,
        heads=config.num_heads,
        ff_width=config.intermediate_size or 4 * config.hidden_size,
        activation=config.activation_function,
        head=HeadSpec(dropout=config.classifier_dropout, decoder_bias=False),
        norm_eps=config.layer_norm_epsilon,
        norm_first=True,
        embedding_norm=False,
        positions=config.max_position_embeddings,
        causal=True,
        attention_bias=False,
        output_bias=True,
        score_scale=1.0,
        windows=tuple(config.window_size - 1 if kind == "local" else None for kind in kinds),
        dropout=config.resid_dropout,
        embedding_dropout=config.embed_dropout,
        attention_dropout=config.attention_dropout,
        initializer_range=config.initializer_range,
    )


DEFINITIONS = {
    "gpt_neo": Definition(
        config=GPTNeoConfig,
        spec=spec,
        base_prefix="transformer",
        rules=(
            Rename("wte", "embeddings.tokens"),
            Rename("wpe", "embeddings.positions"),
            Rename("h.{}.ln_1", "layers.{}.attn_norm"),
            Rename("h.{}.attn.attention.out_proj", "layers.{}.self_attn.o_proj"),
            Rename("h.{}.attn.attention", "layers.{}.self_attn"),
            Rename("h.{}.ln_2", "layers.{}.mlp_norm"),
            Rename("h.{}.mlp.c_fc", "layers.{}.mlp.up_proj"),
            Rename("h.{}.mlp.c_proj", "layers.{}.mlp.down_proj"),
            Rename("ln_f", "norm"),
        ),
        head_rules=HEADS,
        ignored=("*attn.attention.bias", "*attn.attention.masked_bias"),
        architectures=DECODER,
    )
}
