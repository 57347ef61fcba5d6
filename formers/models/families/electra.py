"""ELECTRA (Clark et al., 2020): generator and discriminator."""

from __future__ import annotations

from dataclasses import replace

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import UnsupportedError
from formers.models.families.bert import CLASSIFIER, EMBEDDINGS, LAYERS, classifier_dropout, encoder_spec
from formers.models.families.roberta import SEQUENCE
from formers.models.keys import Rename
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class ElectraConfig(PreTrainedConfig):
    """Configuration of ELECTRA."""

    model_type = "electra"

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 12
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    summary_type: str = "first"
    summary_use_proj: bool = True
    summary_activation: str | None = "gelu"
    summary_last_dropout: float = 0.1
    pad_token_id: int | None = 0
    use_cache: bool = True
    classifier_dropout: float | None = None


def spec(config: ElectraConfig) -> ModelSpec:
    """ELECTRA in neutral terms: BERT with narrower embeddings, without a pooler."""
    if config.summary_type != "first" or not config.summary_use_proj:
        raise UnsupportedError(
            f"summary_type is {config.summary_type!r}, summary_use_proj is {config.summary_use_proj}.",
            "Use the projected first token: summary_type='first', summary_use_proj=True.",
        )
    dropout = classifier_dropout(config)
    head = HeadSpec(
        dropout=dropout,
        choice_dropout=config.summary_last_dropout,
        classifier=Transform("gelu", dropout=dropout),
        multiple_choice=Transform(config.summary_activation),
        masked_lm=Transform("gelu", norm=True, width=config.embedding_size),
    )
    narrow = config.embedding_size if config.embedding_size != config.hidden_size else None
    return replace(encoder_spec(config, head), embedding_width=narrow)


_GENERATOR = (
    Rename("generator_predictions.dense", "head.transform.dense"),
    Rename("generator_predictions.LayerNorm", "head.transform.norm"),
    Rename("generator_lm_head", "head.output"),
)

DEFINITIONS = {
    "electra": Definition(
        config=ElectraConfig,
        spec=spec,
        base_prefix="electra",
        rules=(*EMBEDDINGS, Rename("embeddings_project", "embeddings.projection"), *LAYERS),
        head_rules={
            **CLASSIFIER,
            "ForSequenceClassification": SEQUENCE,
            "ForMultipleChoice": (
                Rename("sequence_summary.summary", "head.transform.dense"),
                *CLASSIFIER["ForMultipleChoice"],
            ),
            "ForMaskedLM": _GENERATOR,
            "ForCausalLM": _GENERATOR,
            "ForPreTraining": (
                Rename("discriminator_predictions.dense", "head.transform.dense"),
                Rename("discriminator_predictions.dense_prediction", "head.output"),
            ),
        },
        ignored=("*embeddings.position_ids",),
        architectures={"ForPreTraining": "Discriminator"},
    )
}
