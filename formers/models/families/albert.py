"""ALBERT (Lan et al., 2019): BERT whose layers share their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from formers.configuration import PreTrainedConfig, config_dataclass, positive
from formers.models.families.bert import CLASSIFIER, EMBEDDINGS
from formers.models.keys import Rename, Rule
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class AlbertConfig(PreTrainedConfig):
    """Configuration of ALBERT."""

    model_type = "albert"

    vocab_size: int = 30000
    embedding_size: int = 128
    hidden_size: int = 4096
    num_hidden_layers: int = 12
    num_hidden_groups: int = 1
    num_attention_heads: int = 64
    intermediate_size: int = 16384
    inner_group_num: int = 1
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_dropout_prob: float | None = 0.1
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3

    def settle(self) -> None:
        """Check the groups."""
        positive(self, "num_hidden_groups", "inner_group_num")


def spec(config: AlbertConfig) -> ModelSpec:
    """ALBERT in neutral terms: layer i runs all blocks of its group."""
    dropout = config.classifier_dropout_prob
    size, groups = config.inner_group_num, config.num_hidden_groups
    group_of = [i * groups // config.num_hidden_layers for i in range(config.num_hidden_layers)]
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers * size,
        heads=config.num_attention_heads,
        ff_width=config.intermediate_size,
        activation=config.hidden_act,
        head=HeadSpec(
            dropout=config.hidden_dropout_prob if dropout is None else dropout,
            pooler=Transform("tanh"),
            masked_lm=Transform(config.hidden_act, norm=True, width=config.embedding_size),
        ),
        norm_eps=config.layer_norm_eps,
        embedding_width=config.embedding_size,
        positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        pad_token_id=config.pad_token_id,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        ff_output_dropout=0.0,
        shared_layers=tuple(group * size + inner for group in group_of for inner in range(size)),
        initializer_range=config.initializer_range,
    )


_BLOCK = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.dense": "self_attn.o_proj",
    "attention.LayerNorm": "attn_norm",
    "ffn": "mlp.up_proj",
    "ffn_output": "mlp.down_proj",
    "full_layer_layer_norm": "mlp_norm",
}
_MASKED_LM = (
    Rename("predictions.dense", "head.transform.dense"),
    Rename("predictions.LayerNorm", "head.transform.norm"),
    Rename("predictions.bias", "head.output.bias", copy="predictions.decoder.bias"),
    Rename("predictions.decoder", "head.output"),
)


def blocks(config: AlbertConfig) -> Mapping[str, Sequence[Rule]]:
    """The names of blocks: checkpoints count groups and blocks inside them, we count all blocks."""
    size = config.inner_group_num
    return {
        "Model": [
            Rename(f"encoder.albert_layer_groups.{i // size}.albert_layers.{i % size}.{file}", f"layers.{i}.{model}")
            for i in range(config.num_hidden_groups * size)
            for file, model in _BLOCK.items()
        ]
    }


DEFINITIONS = {
    "albert": Definition(
        config=AlbertConfig,
        spec=spec,
        base_prefix="albert",
        rules=(
            *EMBEDDINGS,
            Rename("encoder.embedding_hidden_mapping_in", "embeddings.projection"),
            Rename("pooler", "pooler.dense"),
        ),
        head_rules={
            **CLASSIFIER,
            "ForMaskedLM": _MASKED_LM,
            "ForPreTraining": (*_MASKED_LM, Rename("sop_classifier.classifier", "pair_head.output")),
        },
        configured_rules=blocks,
        ignored=("*embeddings.position_ids",),
        architectures={"ForPreTraining": "ForSentenceOrderPreTraining"},
    )
}
