"""BERT (Devlin et al., 2018)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import UnsupportedError
from formers.models.keys import Rename
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class BertConfig(PreTrainedConfig):
    """Configuration of BERT."""

    model_type = "bert"

    vocab_size: int = 30522
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
    pad_token_id: int | None = 0
    use_cache: bool = True
    classifier_dropout: float | None = None


def spec(config: BertConfig) -> ModelSpec:
    """BERT in neutral terms."""
    head = HeadSpec(
        dropout=classifier_dropout(config),
        pooler=Transform("tanh"),
        masked_lm=Transform(config.hidden_act, norm=True),
    )
    return encoder_spec(config, head)


def decoder_spec(config: BertConfig) -> ModelSpec:
    """BERT as the decoder of an encoder–decoder, which reads states of its own width."""
    plain = BertConfig.from_dict({**config.to_dict(), "add_cross_attention": False})
    return replace(spec(plain), causal=True, cross_width=config.hidden_size if config.add_cross_attention else None)


def encoder_spec(config: Any, head: HeadSpec) -> ModelSpec:
    """An encoder whose configuration has BERT's names."""
    if config.add_cross_attention:
        raise UnsupportedError(
            "Cross-attention is not built for encoders.",
            "Set add_cross_attention to False; BERT reads another encoder as the decoder of an EncoderDecoderModel.",
        )
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ff_width=config.intermediate_size,
        activation=config.hidden_act,
        head=head,
        norm_eps=config.layer_norm_eps,
        positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        pad_token_id=config.pad_token_id,
        causal=config.is_decoder,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        initializer_range=config.initializer_range,
    )


def classifier_dropout(config: Any) -> float:
    """The dropout of heads that classify."""
    given: float | None = config.classifier_dropout
    return float(config.hidden_dropout_prob if given is None else given)


EMBEDDINGS = (
    Rename("embeddings.word_embeddings", "embeddings.tokens"),
    Rename("embeddings.position_embeddings", "embeddings.positions"),
    Rename("embeddings.token_type_embeddings", "embeddings.token_types"),
    Rename("embeddings.LayerNorm", "embeddings.norm"),
)
LAYERS = (
    Rename("encoder.layer.{}.attention.self.query", "layers.{}.self_attn.q_proj"),
    Rename("encoder.layer.{}.attention.self.key", "layers.{}.self_attn.k_proj"),
    Rename("encoder.layer.{}.attention.self.value", "layers.{}.self_attn.v_proj"),
    Rename("encoder.layer.{}.attention.output.dense", "layers.{}.self_attn.o_proj"),
    Rename("encoder.layer.{}.attention.output.LayerNorm", "layers.{}.attn_norm"),
    Rename("encoder.layer.{}.intermediate.dense", "layers.{}.mlp.up_proj"),
    Rename("encoder.layer.{}.output.dense", "layers.{}.mlp.down_proj"),
    Rename("encoder.layer.{}.output.LayerNorm", "layers.{}.mlp_norm"),
)
CROSS = (
    Rename("encoder.layer.{}.crossattention.self.query", "layers.{}.cross.attention.q_proj"),
    Rename("encoder.layer.{}.crossattention.self.key", "layers.{}.cross.attention.k_proj"),
    Rename("encoder.layer.{}.crossattention.self.value", "layers.{}.cross.attention.v_proj"),
    Rename("encoder.layer.{}.crossattention.output.dense", "layers.{}.cross.attention.o_proj"),
    Rename("encoder.layer.{}.crossattention.output.LayerNorm", "layers.{}.cross.norm"),
)
CLASSIFIER = {
    "ForSequenceClassification": (Rename("classifier", "head.output"),),
    "ForMultipleChoice": (Rename("classifier", "head.output"),),
    "ForTokenClassification": (Rename("classifier", "head.output"),),
    "ForQuestionAnswering": (Rename("qa_outputs", "head.output"),),
}
MASKED_LM = (
    Rename("cls.predictions.transform.dense", "head.transform.dense"),
    Rename("cls.predictions.transform.LayerNorm", "head.transform.norm"),
    Rename("cls.predictions.bias", "head.output.bias", copy="cls.predictions.decoder.bias"),
    Rename("cls.predictions.decoder", "head.output"),
)

DECODER = Definition(
    config=BertConfig,
    spec=decoder_spec,
    base_prefix="bert",
    rules=(*EMBEDDINGS, *LAYERS, *CROSS),
    head_rules={"DecoderLMHeadModel": MASKED_LM},
    ignored=("*embeddings.position_ids", "*pooler.dense.*", "cls.seq_relationship.*"),
    architectures={"DecoderLMHeadModel": "DecoderForCausalLM"},
    base="DecoderModel",
)

DEFINITIONS = {
    "bert": Definition(
        config=BertConfig,
        spec=spec,
        base_prefix="bert",
        rules=(*EMBEDDINGS, *LAYERS, Rename("pooler.dense", "pooler.dense")),
        head_rules={
            **CLASSIFIER,
            "ForMaskedLM": MASKED_LM,
            "LMHeadModel": MASKED_LM,
            "ForPreTraining": (*MASKED_LM, Rename("cls.seq_relationship", "pair_head.output")),
            "ForNextSentencePrediction": (Rename("cls.seq_relationship", "head.output"),),
        },
        ignored=("*embeddings.position_ids",),
        halves={"DecoderModel": DECODER, "DecoderLMHeadModel": DECODER},
    )
}
