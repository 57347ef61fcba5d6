"""MPNet (Song et al., 2020): BERT with a bias for relative positions that all layers share."""

from __future__ import annotations

from functools import partial

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.layers.relative import RelativeBias
from formers.models.families.bert import CLASSIFIER, EMBEDDINGS, LAYERS
from formers.models.families.roberta import MASKED_LM, SEQUENCE
from formers.models.keys import Rename
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform

# Fixed in this family, whatever the configuration says.
_PADDING = 1
_MAX_DISTANCE = 128


@config_dataclass
class MPNetConfig(PreTrainedConfig):
    """Configuration of MPNet."""

    model_type = "mpnet"

    vocab_size: int = 30527
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    relative_attention_num_buckets: int = 32
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


def spec(config: MPNetConfig) -> ModelSpec:
    """MPNet in neutral terms."""
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ff_width=config.intermediate_size,
        activation=config.hidden_act,
        head=HeadSpec(
            dropout=config.hidden_dropout_prob,
            pooler=Transform("tanh"),
            classifier=Transform("tanh", dropout=config.hidden_dropout_prob),
            masked_lm=Transform("gelu", norm=True),
        ),
        norm_eps=config.layer_norm_eps,
        positions=config.max_position_embeddings,
        positions_after=_PADDING,
        pad_token_id=_PADDING,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        position_bias=partial(_position_bias, config.relative_attention_num_buckets),
        initializer_range=config.initializer_range,
    )


def _position_bias(buckets: int, spec: ModelSpec) -> RelativeBias:
    return RelativeBias(spec.heads, buckets, _MAX_DISTANCE)


DEFINITIONS = {
    "mpnet": Definition(
        config=MPNetConfig,
        spec=spec,
        base_prefix="mpnet",
        rules=(
            *EMBEDDINGS,
            Rename("encoder.layer.{}.attention.attn.q", "layers.{}.self_attn.q_proj"),
            Rename("encoder.layer.{}.attention.attn.k", "layers.{}.self_attn.k_proj"),
            Rename("encoder.layer.{}.attention.attn.v", "layers.{}.self_attn.v_proj"),
            Rename("encoder.layer.{}.attention.attn.o", "layers.{}.self_attn.o_proj"),
            Rename("encoder.layer.{}.attention.LayerNorm", "layers.{}.attn_norm"),
            *LAYERS,
            Rename("encoder.relative_attention_bias", "position_bias.weights"),
        ),
        head_rules={
            **CLASSIFIER,
            "ForSequenceClassification": SEQUENCE,
            "ForMaskedLM": MASKED_LM,
        },
        ignored=("*embeddings.position_ids",),
    )
}
