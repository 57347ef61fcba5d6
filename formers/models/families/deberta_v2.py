"""DeBERTa, versions 2 and 3 (He et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import ConfigError
from formers.layers.block import Block
from formers.layers.convolution import ConvolutionBlock
from formers.layers.disentangled import Disentangled, DisentangledBias
from formers.layers.dropout import dropout
from formers.layers.embeddings import Embeddings
from formers.layers.linear import Linear
from formers.models.families.bert import CLASSIFIER, EMBEDDINGS, LAYERS, MASKED_LM
from formers.models.heads import classification_loss
from formers.models.keys import Rename, Rule
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class DebertaV2Config(PreTrainedConfig):
    """Configuration of DeBERTa-v2 and -v3."""

    model_type = "deberta-v2"

    vocab_size: int = 128100
    hidden_size: int = 1536
    num_hidden_layers: int = 24
    num_attention_heads: int = 24
    intermediate_size: int = 6144
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-7
    relative_attention: bool = False
    max_relative_positions: int = -1
    position_buckets: int = -1
    norm_rel_ebd: str = "none"
    share_att_key: bool = False
    pos_att_type: list[str] | str | None = None
    position_biased_input: bool = True
    pad_token_id: int | None = 0
    embedding_size: int | None = None
    conv_kernel_size: int = 0
    conv_groups: int = 1
    conv_act: str = "tanh"
    pooler_dropout: float = 0.0
    pooler_hidden_act: str = "gelu"
    pooler_hidden_size: int | None = None
    cls_dropout: float | None = None
    legacy: bool = True

    def settle(self) -> None:
        """Split the position terms; the head that is not the legacy one has no output weights but the embeddings."""
        if isinstance(self.pos_att_type, str):
            self.pos_att_type = [term.strip() for term in self.pos_att_type.lower().split("|")]
        self.tie_word_embeddings = self.tie_word_embeddings or not self.legacy
        if self.pooler_hidden_size is None:
            self.pooler_hidden_size = self.hidden_size


class DebertaV2Embeddings(Embeddings):
    """Projected before the norm, without a bias. Where a model has no token types, those it is given are ignored."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        width = self.tokens.embedding_dim
        self.projection = None if width == spec.width else Linear(width, spec.width, bias=False)
        self.norm = nn.LayerNorm(spec.width, spec.norm_eps)

    def forward(self, tokens: Tensor, positions: Tensor | None, token_types: Tensor | None) -> Tensor:
        """As in Embeddings."""
        assert self.norm is not None
        x = self.summed(tokens, positions, None if self.token_types is None else token_types)
        x = self.norm(x if self.projection is None else self.projection(x))
        return dropout(x, self.dropout, self.training)


def sequence_loss(logits: Tensor, labels: Tensor, config: PreTrainedConfig) -> Tensor:
    """Loss of logits (B, C). Without a problem type, negative classes are left out, labels (B, C) are probabilities."""
    if config.problem_type is not None:
        return classification_loss(logits, labels, config)
    if config.num_labels == 1:
        return F.mse_loss(logits.flatten(), labels.flatten().to(logits.dtype))
    if labels.dim() > 1 and labels.shape[-1] > 1:
        return F.cross_entropy(logits, labels.to(logits.dtype))
    classes = labels.flatten().long()
    known = classes >= 0
    return F.cross_entropy(logits[known], classes[known]) if known.any() else logits.sum() * 0


def spec(config: DebertaV2Config) -> ModelSpec:
    """DeBERTa in neutral terms."""
    if config.pooler_hidden_size not in (None, config.hidden_size):
        raise ConfigError(
            f"pooler_hidden_size is {config.pooler_hidden_size}, hidden_size is {config.hidden_size}.",
            "Leave pooler_hidden_size out: the pooler has the model's width.",
        )
    if config.conv_kernel_size > 0 and config.conv_kernel_size % 2 == 0:
        raise ConfigError(f"conv_kernel_size is {config.conv_kernel_size}.", "Give an odd number, or 0 for none.")
    terms = tuple(term for term in ("c2p", "p2c") if term in (config.pos_att_type or ()))
    pooler = Transform(config.pooler_hidden_act, dropout=config.pooler_dropout)
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ff_width=config.intermediate_size,
        activation=config.hidden_act,
        head=HeadSpec(
            dropout=config.hidden_dropout_prob if config.cls_dropout is None else config.cls_dropout,
            classifier=pooler,
            multiple_choice=pooler,
            token_dropout=config.hidden_dropout_prob,
            masked_lm=Transform(config.hidden_act, norm=True, width=config.embedding_size),
            loss=sequence_loss,
        ),
        norm_eps=config.layer_norm_eps,
        embedding_width=config.embedding_size,
        positions=config.max_position_embeddings if config.position_biased_input else None,
        token_types=config.type_vocab_size,
        pad_token_id=config.pad_token_id,
        even_padding=True,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        score_terms=1 + len(terms),
        initializer_range=config.initializer_range,
        embeddings=DebertaV2Embeddings,
        position_bias=partial(DisentangledBias, _disentangled(config, terms)) if config.relative_attention else None,
        block=partial(_block, config),
    )


def _disentangled(config: DebertaV2Config, terms: tuple[str, ...]) -> Disentangled:
    farthest = config.max_relative_positions if config.max_relative_positions > 0 else config.max_position_embeddings
    return Disentangled(
        terms=terms,
        span=config.position_buckets if config.position_buckets > 0 else farthest,
        farthest=farthest,
        buckets=config.position_buckets,
        shared=config.share_att_key,
        normed="layer_norm" in config.norm_rel_ebd.lower(),
    )


def _block(config: DebertaV2Config, spec: ModelSpec, index: int) -> Block:
    if index > 0 or config.conv_kernel_size < 1:
        return Block(spec, index)
    return ConvolutionBlock(spec, index, kernel=config.conv_kernel_size, groups=config.conv_groups, act=config.conv_act)


def masked_lm_rules(config: DebertaV2Config) -> Mapping[str, Sequence[Rule]]:
    """The names of the legacy head, or of the one that the models were trained with."""
    current = (
        Rename("lm_predictions.lm_head.dense", "head.transform.dense"),
        Rename("lm_predictions.lm_head.LayerNorm", "head.transform.norm"),
        Rename("lm_predictions.lm_head", "head.output"),
    )
    return {"ForMaskedLM": MASKED_LM if config.legacy else current}


_POOLER = (Rename("pooler.dense", "head.transform.dense"),)

DEFINITIONS = {
    "deberta-v2": Definition(
        config=DebertaV2Config,
        spec=spec,
        base_prefix="deberta",
        rules=(
            Rename("embeddings.embed_proj", "embeddings.projection"),
            *EMBEDDINGS,
            Rename("encoder.layer.{}.attention.self.query_proj", "layers.{}.self_attn.q_proj"),
            Rename("encoder.layer.{}.attention.self.key_proj", "layers.{}.self_attn.k_proj"),
            Rename("encoder.layer.{}.attention.self.value_proj", "layers.{}.self_attn.v_proj"),
            Rename("encoder.layer.{}.attention.self.pos_key_proj", "position_bias.pos_key_proj.{}"),
            Rename("encoder.layer.{}.attention.self.pos_query_proj", "position_bias.pos_query_proj.{}"),
            *LAYERS,
            Rename("encoder.rel_embeddings", "position_bias.embeddings"),
            Rename("encoder.LayerNorm", "position_bias.norm"),
            Rename("encoder.conv.conv", "layers.0.conv"),
            Rename("encoder.conv.LayerNorm", "layers.0.conv_norm"),
        ),
        head_rules={
            **CLASSIFIER,
            "ForSequenceClassification": (*_POOLER, *CLASSIFIER["ForSequenceClassification"]),
            "ForMultipleChoice": (*_POOLER, *CLASSIFIER["ForMultipleChoice"]),
        },
        configured_rules=masked_lm_rules,
        ignored=("*position_embeddings*", "*embeddings.position_ids", "*encoder.LayerNorm.*", "mask_predictions.*"),
    )
}
