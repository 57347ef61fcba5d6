"""SmolLM3 (Hugging Face, 2025): Llama with some layers that know no positions."""

from __future__ import annotations

from typing import Any, ClassVar

from formers.configuration import config_dataclass
from formers.models.families.llama import HEADS, IGNORED, RULES, decoder_spec, layer_windows
from formers.models.rope import RotaryConfig, rotary
from formers.models.spec import DECODER, Definition, ModelSpec


@config_dataclass
class SmolLM3Config(RotaryConfig):
    """Configuration of SmolLM3."""

    model_type = "smollm3"
    default_theta: ClassVar[float] = 2_000_000.0

    vocab_size: int = 128256
    hidden_size: int = 2048
    intermediate_size: int = 11008
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 4
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    pad_token_id: int | None = 128004
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    use_sliding_window: bool = False
    sliding_window: int | None = None
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4
    layer_types: list[str] | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False

    def settle(self) -> None:
        """Fill what the other values decide."""
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.no_rope_layers is None:
            every = self.no_rope_layer_interval
            self.no_rope_layers = [int((index + 1) % every != 0) for index in range(self.num_hidden_layers)]
        if self.layer_types is None:
            windows = self.use_sliding_window and self.sliding_window is not None
            turned = self.no_rope_layers[: self.num_hidden_layers]
            kinds = ("full_attention", "sliding_attention")
            self.layer_types = [kinds[windows and not turn] for turn in turned]


def spec(config: SmolLM3Config) -> ModelSpec:
    """SmolLM3 in neutral terms."""
    turn = rotary(config, config.hidden_size // config.num_attention_heads)
    turned: Any = config.no_rope_layers
    return decoder_spec(
        config,
        attention_bias=config.attention_bias,
        ff_bias=config.mlp_bias,
        rotary=tuple(turn if flag else None for flag in turned[: config.num_hidden_layers]),
        windows=layer_windows(config),
    )


DEFINITIONS = {
    "smollm3": Definition(
        config=SmolLM3Config,
        spec=spec,
        base_prefix="model",
        prefixes={"ForQuestionAnswering": "transformer"},
        rules=RULES,
        head_rules=HEADS,
        ignored=IGNORED,
        architectures=DECODER,
    )
}
