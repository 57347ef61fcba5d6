"""T5, versions 1.0 and 1.1 (Raffel et al., 2020); Flan-T5 and ByT5 are such models too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import ConfigError
from formers.layers.relative import CausalRelativeBias, RelativeBias
from formers.models.halves import encoder_decoder
from formers.models.keys import Rename, Rule
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class T5LikeConfig(PreTrainedConfig):
    """What the configurations of T5, mT5 and UMT5 hold."""

    attribute_map: ClassVar[Mapping[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    is_encoder_decoder: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | None = None
    classifier_dropout: float = 0.0
    # What `feed_forward_proj` says, in two values; None: read it.
    dense_act_fn: str | None = None
    is_gated_act: bool | None = None

    def settle(self) -> None:
        """As many decoder layers as encoder layers, and the activation of `feed_forward_proj`, unless given."""
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        activation, gated = feed_forward(self.feed_forward_proj)
        if self.dense_act_fn is None:
            self.dense_act_fn = activation
        if self.is_gated_act is None:
            self.is_gated_act = gated


@config_dataclass
class T5Config(T5LikeConfig):
    """Configuration of T5."""

    model_type = "t5"

    # Version 1.0 scales the decoder's output; None: where the embeddings are tied.
    scale_decoder_outputs: bool | None = None

    def settle(self) -> None:
        """Version 1.1 ties no logits and scales nothing."""
        super().settle()
        if self.scale_decoder_outputs is None:
            self.scale_decoder_outputs = self.tie_word_embeddings


def feed_forward(described: str) -> tuple[str, bool]:
    """The activation, and whether there is a gate, of "relu", "gated-gelu" (whose GELU is tanh's) or "gated-silu"."""
    gate, _, name = described.rpartition("-")
    if gate not in ("", "gated"):
        raise ConfigError(f"feed_forward_proj is {described!r}.", "Give an activation, or 'gated-' and an activation.")
    return ("gelu_new" if described == "gated-gelu" else name), gate == "gated"


def deviation(config: Any, name: str, shape: Sequence[int]) -> float:
    """The deviation of a new weight: no score is scaled, so the queries' weights are small."""
    factor: float = config.initializer_factor
    if name.endswith(("embeddings.tokens.weight", "head.output.weight")):
        return factor
    if name.endswith("q_proj.weight"):
        return factor / math.sqrt(config.d_model * config.d_kv)
    return factor / math.sqrt(config.d_model if "position_bias" in name else shape[-1])


def t5_spec(config: Any, scaled: bool, biases: bool) -> ModelSpec:
    """A T5 in neutral terms; `scaled` logits, relative `biases` in every layer."""
    tables = (config.num_heads, config.relative_attention_num_buckets, config.relative_attention_max_distance)
    layers = {"encoder": config.num_layers, "decoder": config.num_decoder_layers}
    own = {half: count if biases else None for half, count in layers.items()}
    encoder = ModelSpec(
        vocab_size=config.vocab_size,
        width=config.d_model,
        layers=config.num_layers,
        heads=config.num_heads,
        head_width=config.d_kv,
        ff_width=config.d_ff,
        activation=config.dense_act_fn,
        gated=config.is_gated_act,
        head=HeadSpec(
            dropout=config.classifier_dropout,
            classifier=Transform("tanh", dropout=config.classifier_dropout),
            decoder_bias=False,
        ),
        norm="rms",
        norm_eps=config.layer_norm_epsilon,
        norm_first=True,
        embedding_norm=False,
        attention_bias=False,
        ff_bias=False,
        dropout=config.dropout_rate,
        attention_dropout=config.dropout_rate,
        ff_dropout=config.dropout_rate,
        final_dropout=config.dropout_rate,
        score_scale=1.0,
        deviation=partial(deviation, config),
        shared_embeddings=True,
        position_bias=lambda spec: RelativeBias(*tables, layers=own["encoder"]),
    )
    return replace(
        encoder,
        layers=config.num_decoder_layers,
        causal=True,
        cross_width=config.d_model,
        logit_scale=config.d_model**-0.5 if scaled else None,
        position_bias=lambda spec: CausalRelativeBias(*tables, layers=own["decoder"]),
        encoder=encoder,
    )


def spec(config: T5Config) -> ModelSpec:
    """T5 in neutral terms."""
    return t5_spec(config, bool(config.scale_decoder_outputs), False)


def rules(half: str, biases: bool, config: Any) -> list[Rule]:
    """The keys of a half, "encoder" or "decoder", with relative `biases` in every layer or in one."""
    block, bias = "block.{}.layer.", ("{}", ".{}") if biases else ("0", "")
    feed = f"{block}{2 if half == 'decoder' else 1}."
    first, second = ("wi_0", "wi_1") if config.is_gated_act else ("wi_0", "wi")
    found: list[Rule] = [
        Rename(f"block.{bias[0]}.layer.0.SelfAttention.relative_attention_bias", "position_bias.weights" + bias[1]),
        *(Rename(f"{block}0.SelfAttention.{part}", f"layers.{{}}.self_attn.{part}_proj") for part in "qkvo"),
        Rename(block + "0.layer_norm", "layers.{}.attn_norm"),
        Rename(feed + "DenseReluDense." + first, "layers.{}.mlp.gate_proj"),
        Rename(feed + "DenseReluDense." + second, "layers.{}.mlp.up_proj"),
        Rename(feed + "DenseReluDense.wo", "layers.{}.mlp.down_proj"),
        Rename(feed + "layer_norm", "layers.{}.mlp_norm"),
        Rename("final_layer_norm", "norm"),
    ]
    if half == "decoder":
        cross = f"{block}1.EncDecAttention."
        found += [Rename(cross + part, f"layers.{{}}.cross.attention.{part}_proj") for part in "qkvo"]
        found += [Rename(block + "1.layer_norm", "layers.{}.cross.norm")]
    return found


def t5(config: type[PreTrainedConfig], spec: Callable[[Any], ModelSpec], biases: bool = False) -> Definition:
    """The definition of a T5; with `biases` every layer has its own."""
    return encoder_decoder(
        config,
        spec,
        encoder=partial(rules, "encoder", biases),
        decoder=partial(rules, "decoder", biases),
        base_prefix="transformer",
        head_rules={
            "ForConditionalGeneration": (Rename("lm_head", "head.output"),),
            "ForSequenceClassification": (
                Rename("classification_head.dense", "head.transform.dense"),
                Rename("classification_head.out_proj", "head.output"),
            ),
            "ForQuestionAnswering": (Rename("qa_outputs", "head.output"),),
            "ForTokenClassification": (Rename("classifier", "head.output"),),
        },
        # These have the two halves beside their heads.
        prefixes={"ForConditionalGeneration": "", "ForQuestionAnswering": ""},
        on_encoder={"ForTokenClassification": "ForTokenClassification"},
        ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
    )


DEFINITIONS = {"t5": t5(T5Config, spec)}
