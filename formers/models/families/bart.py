"""BART (Lewis et al., 2019) and the families with its parts in another order: mBART, Pegasus, Marian, Blenderbot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.layers.dropout import dropout
from formers.layers.embeddings import Embeddings
from formers.models.halves import encoder_decoder
from formers.models.heads import IGNORED
from formers.models.keys import Rename, Rule
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class BartLikeConfig(PreTrainedConfig):
    """What the configurations of all these families hold."""

    attribute_map: ClassVar[Mapping[str, str]] = {
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: int = 50265
    max_position_embeddings: int = 1024
    encoder_layers: int = 12
    encoder_ffn_dim: int = 4096
    encoder_attention_heads: int = 16
    decoder_layers: int = 12
    decoder_ffn_dim: int = 4096
    decoder_attention_heads: int = 16
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    activation_function: str = "gelu"
    d_model: int = 1024
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    use_cache: bool = True
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2
    forced_eos_token_id: int | list[int] | None = 2


@config_dataclass
class BartConfig(BartLikeConfig):
    """Configuration of BART."""

    model_type = "bart"

    classifier_dropout: float = 0.0

    def _settle_labels(self, num_labels: int | None) -> None:
        super()._settle_labels(3 if num_labels is None and self.id2label is None else num_labels)


@config_dataclass
class MBartConfig(BartLikeConfig):
    """Configuration of mBART."""

    model_type = "mbart"

    classifier_dropout: float = 0.0
    decoder_start_token_id: int | None = None


@config_dataclass
class BlenderbotConfig(BartLikeConfig):
    """Configuration of Blenderbot."""

    model_type = "blenderbot"

    vocab_size: int = 8008
    max_position_embeddings: int = 128
    encoder_layers: int = 2
    encoder_ffn_dim: int = 10240
    encoder_attention_heads: int = 32
    decoder_layers: int = 24
    decoder_ffn_dim: int = 10240
    decoder_attention_heads: int = 32
    d_model: int = 2560
    decoder_start_token_id: int | None = 1
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    encoder_no_repeat_ngram_size: int = 3


@config_dataclass
class BlenderbotSmallConfig(BartLikeConfig):
    """Configuration of the smaller Blenderbot."""

    model_type = "blenderbot-small"

    max_position_embeddings: int = 512
    encoder_layers: int = 8
    encoder_ffn_dim: int = 2048
    decoder_layers: int = 8
    decoder_ffn_dim: int = 2048
    d_model: int = 512
    decoder_start_token_id: int | None = 1
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1


class NormedTokens(Embeddings):
    """The norm stands before the positions, not after them."""

    def forward(self, tokens: Tensor, positions: Tensor | None, token_types: Tensor | None) -> Tensor:
        """As in Embeddings."""
        assert self.norm is not None
        x = self.placed(self.norm(self.looked_up(tokens)), positions)
        return dropout(x, self.dropout, self.training)


def bart_spec(config: Any, **differences: Any) -> ModelSpec:
    """BART in neutral terms, from a configuration with its field names, with what differs."""
    classifier_dropout = getattr(config, "classifier_dropout", 0.0)
    shared: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "width": config.d_model,
        "activation": config.activation_function,
        "head": HeadSpec(
            dropout=classifier_dropout,
            classifier=Transform("tanh", dropout=classifier_dropout),
            decoder_bias=False,
            labels_ahead=True,
            logits_bias=True,
        ),
        "norm_eps": 1e-5,
        "embedding_scale": config.d_model**0.5 if config.scale_embedding else None,
        "positions": config.max_position_embeddings,
        "pad_token_id": config.pad_token_id,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "ff_dropout": config.activation_dropout,
        "initializer_range": config.init_std,
        **differences,
    }
    encoder = ModelSpec(
        layers=config.encoder_layers,
        heads=config.encoder_attention_heads,
        ff_width=config.encoder_ffn_dim,
        layer_dropout=config.encoder_layerdrop,
        **shared,
    )
    return replace(
        encoder,
        layers=config.decoder_layers,
        heads=config.decoder_attention_heads,
        ff_width=config.decoder_ffn_dim,
        layer_dropout=config.decoder_layerdrop,
        causal=True,
        cross_width=config.d_model,
        encoder=encoder,
    )


def _with_head(spec: ModelSpec, **differences: Any) -> ModelSpec:
    return replace(spec, head=replace(spec.head, **differences))


def spec(config: BartConfig) -> ModelSpec:
    """BART in neutral terms: its positions begin at 2."""
    offset = {"positions": config.max_position_embeddings + 2, "position_offset": 2}
    return _with_head(bart_spec(config, **offset), own_inputs=True)


def mbart_spec(config: MBartConfig) -> ModelSpec:
    """MBART in neutral terms: norms come first, and labels begin with their language, which stands last."""
    offset = {"positions": config.max_position_embeddings + 2, "position_offset": 2}
    return _with_head(bart_spec(config, norm_first=True, **offset), own_inputs=True, shift=wrap_right)


def blenderbot_spec(config: BlenderbotConfig) -> ModelSpec:
    """Blenderbot in neutral terms: norms come first, and none in the embeddings."""
    return bart_spec(config, norm_first=True, embedding_norm=False)


def blenderbot_small_spec(config: BlenderbotSmallConfig) -> ModelSpec:
    """The smaller Blenderbot in neutral terms: its decoder's embeddings are normalised before positions are added."""
    return replace(bart_spec(config), embeddings=NormedTokens)


def wrap_right(labels: Tensor, config: PreTrainedConfig) -> Tensor:
    """Labels (B, T) moved right by one, behind their last token that is no padding (Liu et al., 2020)."""
    assert config.pad_token_id is not None
    filled = labels.masked_fill(labels == IGNORED, config.pad_token_id)
    last = (filled != config.pad_token_id).sum(1, keepdim=True) - 1
    shifted = filled.roll(1, dims=1)
    shifted[:, :1] = filled.gather(1, last.clamp(min=0))
    return shifted


_LAYER = "layers.{}."
# The keys of either half.
BLOCKS: tuple[Rule, ...] = (
    Rename("embed_positions", "embeddings.positions"),
    Rename("layernorm_embedding", "embeddings.norm"),
    Rename(_LAYER + "self_attn.out_proj", _LAYER + "self_attn.o_proj"),
    Rename(_LAYER + "self_attn_layer_norm", _LAYER + "attn_norm"),
    Rename(_LAYER + "encoder_attn.out_proj", _LAYER + "cross.attention.o_proj"),
    Rename(_LAYER + "encoder_attn", _LAYER + "cross.attention"),
    Rename(_LAYER + "encoder_attn_layer_norm", _LAYER + "cross.norm"),
    Rename(_LAYER + "fc1", _LAYER + "mlp.up_proj"),
    Rename(_LAYER + "fc2", _LAYER + "mlp.down_proj"),
    Rename(_LAYER + "final_layer_norm", _LAYER + "mlp_norm"),
    Rename("layer_norm", "norm"),
)
LOGITS: tuple[Rule, ...] = (Rename("final_logits_bias", "head.bias"), Rename("lm_head", "head.output"))
HEADS: Mapping[str, tuple[Rule, ...]] = {
    "ForCausalLM": LOGITS[1:],
    "ForConditionalGeneration": LOGITS,
    "MTModel": LOGITS,
    "ForSequenceClassification": (
        Rename("classification_head.dense", "head.transform.dense"),
        Rename("classification_head.out_proj", "head.output"),
    ),
    "ForQuestionAnswering": (Rename("qa_outputs", "head.output"),),
}


def bart(
    config: type[PreTrainedConfig],
    spec: Callable[[Any], ModelSpec],
    optional: Sequence[str] = (),
    unsaved: Mapping[str, Sequence[str]] | None = None,
) -> Definition:
    """The definition of a family with BART's keys."""
    return encoder_decoder(
        config,
        spec,
        encoder=lambda values: BLOCKS,
        decoder=lambda values: BLOCKS,
        base_prefix="model",
        head_rules=HEADS,
        ignored=("*encoder.version", "*decoder.version"),
        optional=("final_logits_bias", *optional),
        unsaved=unsaved,
    )


DEFINITIONS = {
    "bart": bart(BartConfig, spec),
    "mbart": bart(MBartConfig, mbart_spec),
    "blenderbot": bart(BlenderbotConfig, blenderbot_spec),
    "blenderbot-small": bart(BlenderbotSmallConfig, blenderbot_small_spec),
}
