"""RoBERTa (Liu et al., 2019), XLM-RoBERTa (Conneau et al., 2019) and CamemBERT (Martin et al., 2019)."""

from __future__ import annotations

from dataclasses import replace

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import ConfigError
from formers.models.families.bert import CLASSIFIER, EMBEDDINGS, LAYERS, classifier_dropout, encoder_spec
from formers.models.keys import Rename
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class RobertaConfig(PreTrainedConfig):
    """Configuration of RoBERTa."""

    model_type = "roberta"

    vocab_size: int = 50265
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    use_cache: bool = True
    classifier_dropout: float | None = None


@config_dataclass
class XLMRobertaConfig(RobertaConfig):
    """Configuration of XLM-RoBERTa."""

    model_type = "xlm-roberta"

    vocab_size: int = 30522


@config_dataclass
class CamembertConfig(RobertaConfig):
    """Configuration of CamemBERT."""

    model_type = "camembert"

    vocab_size: int = 30522


def spec(config: RobertaConfig) -> ModelSpec:
    """RoBERTa in neutral terms: BERT, with positions that start after the padding id and heads of its own."""
    if config.pad_token_id is None:
        raise ConfigError("pad_token_id is missing; positions are counted from it.", "Add it to config.json.")
    dropout = classifier_dropout(config)
    head = HeadSpec(
        dropout=dropout,
        choice_dropout=config.hidden_dropout_prob,
        pooler=Transform("tanh"),
        classifier=Transform("tanh", dropout=dropout),
        masked_lm=Transform("gelu", norm=True),
    )
    return replace(encoder_spec(config, head), positions_after=config.pad_token_id)


SEQUENCE = (Rename("classifier.dense", "head.transform.dense"), Rename("classifier.out_proj", "head.output"))
MASKED_LM = (
    Rename("lm_head.dense", "head.transform.dense"),
    Rename("lm_head.layer_norm", "head.transform.norm"),
    Rename("lm_head.bias", "head.output.bias", copy="lm_head.decoder.bias"),
    Rename("lm_head.decoder", "head.output"),
)


def _definition(config: type[RobertaConfig]) -> Definition:
    return Definition(
        config=config,
        spec=spec,
        base_prefix="roberta",
        rules=(*EMBEDDINGS, *LAYERS),
        head_rules={
            **CLASSIFIER,
            "ForSequenceClassification": SEQUENCE,
            "ForMaskedLM": MASKED_LM,
            "ForCausalLM": MASKED_LM,
        },
        ignored=("*embeddings.position_ids",),
    )


DEFINITIONS = {config.model_type: _definition(config) for config in (RobertaConfig, XLMRobertaConfig, CamembertConfig)}
