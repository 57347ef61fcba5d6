"""DistilBERT (Sanh et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.models.families.bert import CLASSIFIER, EMBEDDINGS
from formers.models.keys import Rename
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class DistilBertConfig(PreTrainedConfig):
    """Configuration of DistilBERT."""

    model_type = "distilbert"
    attribute_map: ClassVar[Mapping[str, str]] = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0


def spec(config: DistilBertConfig) -> ModelSpec:
    """DistilBERT in neutral terms. Sinusoidal positions are weights like others: checkpoints hold them."""
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.dim,
        layers=config.n_layers,
        heads=config.n_heads,
        ff_width=config.hidden_dim,
        activation=config.activation,
        head=HeadSpec(
            dropout=config.seq_classif_dropout,
            classifier=Transform("relu"),
            multiple_choice=Transform("relu"),
            token_dropout=config.dropout,
            qa_dropout=config.qa_dropout,
            masked_lm=Transform(config.activation, norm=True),
        ),
        positions=config.max_position_embeddings,
        sinusoidal_positions=config.sinusoidal_pos_embds,
        pad_token_id=config.pad_token_id,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        attention_output_dropout=0.0,
        initializer_range=config.initializer_range,
    )


_SEQUENCE = (Rename("pre_classifier", "head.transform.dense"), Rename("classifier", "head.output"))

DEFINITIONS = {
    "distilbert": Definition(
        config=DistilBertConfig,
        spec=spec,
        base_prefix="distilbert",
        rules=(
            *EMBEDDINGS,
            Rename("transformer.layer.{}.attention.q_lin", "layers.{}.self_attn.q_proj"),
            Rename("transformer.layer.{}.attention.k_lin", "layers.{}.self_attn.k_proj"),
            Rename("transformer.layer.{}.attention.v_lin", "layers.{}.self_attn.v_proj"),
            Rename("transformer.layer.{}.attention.out_lin", "layers.{}.self_attn.o_proj"),
            Rename("transformer.layer.{}.sa_layer_norm", "layers.{}.attn_norm"),
            Rename("transformer.layer.{}.ffn.lin1", "layers.{}.mlp.up_proj"),
            Rename("transformer.layer.{}.ffn.lin2", "layers.{}.mlp.down_proj"),
            Rename("transformer.layer.{}.output_layer_norm", "layers.{}.mlp_norm"),
        ),
        head_rules={
            **CLASSIFIER,
            "ForSequenceClassification": _SEQUENCE,
            "ForMultipleChoice": _SEQUENCE,
            "ForMaskedLM": (
                Rename("vocab_transform", "head.transform.dense"),
                Rename("vocab_layer_norm", "head.transform.norm"),
                Rename("vocab_projector", "head.output"),
            ),
        },
        ignored=("*embeddings.position_ids",),
    )
}
