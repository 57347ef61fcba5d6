"""ModernBERT (Warner et al., 2024)."""

from __future__ import annotations

from typing import Any

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import ConfigError, UnsupportedError
from formers.models.keys import Fuse, Rename
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform

_FULL, _SLIDING = "full_attention", "sliding_attention"
# Each kind of layer: the older name of its base frequency, and the default.
_THETAS = {_FULL: ("global_rope_theta", 160_000.0), _SLIDING: ("local_rope_theta", 10_000.0)}


@config_dataclass
class ModernBertConfig(PreTrainedConfig):
    """Configuration of ModernBERT."""

    model_type = "modernbert"

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    initializer_cutoff_factor: float = 2.0
    norm_eps: float = 1e-5
    norm_bias: bool = False
    pad_token_id: int | None = 50283
    eos_token_id: int | list[int] | None = 50282
    bos_token_id: int | None = 50281
    cls_token_id: int | None = 50281
    sep_token_id: int | None = 50282
    attention_bias: bool = False
    attention_dropout: float = 0.0
    layer_types: list[str] | None = None
    rope_parameters: dict[str, Any] | None = None
    local_attention: int = 128
    embedding_dropout: float = 0.0
    mlp_bias: bool = False
    mlp_dropout: float = 0.0
    decoder_bias: bool = True
    classifier_pooling: str = "cls"
    classifier_dropout: float = 0.0
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    deterministic_flash_attn: bool = False
    sparse_prediction: bool = False
    sparse_pred_ignore_index: int = -100

    def settle(self) -> None:
        """Fill the kinds of layers and their base frequencies, from older names where a file has those."""
        if self.layer_types is None:
            every = self.extra.get("global_attn_every_n_layers", 3)
            self.layer_types = [_SLIDING if i % every else _FULL for i in range(self.num_hidden_layers)]
        given = self.rope_parameters or {}
        self.rope_parameters = {
            kind: {"rope_type": "default", "rope_theta": self.extra.get(older, theta), **(given.get(kind) or {})}
            for kind, (older, theta) in _THETAS.items()
        }

    @property
    def sliding_window(self) -> int:
        """How many tokens on either side a sliding layer sees."""
        return self.local_attention // 2

    @sliding_window.setter
    def sliding_window(self, tokens: int) -> None:
        self.local_attention = 2 * tokens


def spec(config: ModernBertConfig) -> ModelSpec:
    """ModernBERT in neutral terms."""
    kinds = (config.layer_types or [])[: config.num_hidden_layers]
    if len(kinds) < config.num_hidden_layers or not set(kinds) <= set(_THETAS):
        raise ConfigError(
            f"layer_types is {config.layer_types!r} for {config.num_hidden_layers} layers.",
            f"Name each layer {_FULL!r} or {_SLIDING!r}, or leave layer_types out.",
        )
    if config.classifier_pooling not in ("cls", "mean"):
        raise ConfigError(f"classifier_pooling is {config.classifier_pooling!r}.", "Use 'cls' or 'mean'.")
    transform = Transform(config.classifier_activation, norm=True, bias=config.classifier_bias)
    mean = config.classifier_pooling == "mean"
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ff_width=config.intermediate_size,
        activation=config.hidden_activation,
        head=HeadSpec(
            dropout=config.classifier_dropout,
            classifier=transform,
            multiple_choice=transform,
            token=transform,
            qa_dropout=config.classifier_dropout,
            masked_lm=transform,
            decoder_bias=config.decoder_bias,
            pooling="mean" if mean else "cls",
            choice_pooling="mean" if mean else "first",
            sparse_label=config.sparse_pred_ignore_index if config.sparse_prediction else None,
        ),
        norm_eps=config.norm_eps,
        norm_bias=config.norm_bias,
        norm_first=True,
        # The embeddings are normalised already.
        first_norm=False,
        pad_token_id=config.pad_token_id,
        attention_bias=config.attention_bias,
        ff_bias=config.mlp_bias,
        gated=True,
        dropout=config.attention_dropout,
        attention_dropout=config.attention_dropout,
        ff_dropout=config.mlp_dropout,
        ff_output_dropout=0.0,
        embedding_dropout=config.embedding_dropout,
        windows=tuple(config.sliding_window if kind == _SLIDING else None for kind in kinds),
        rope_thetas=tuple(_theta(config, kind) for kind in kinds),
        initializer_range=config.initializer_range,
    )


def _theta(config: ModernBertConfig, kind: str) -> float:
    rope = (config.rope_parameters or {})[kind]
    if rope["rope_type"] != "default":
        raise UnsupportedError(
            f"rope_parameters ask for {rope['rope_type']!r} frequencies in {kind!r} layers.",
            "Use rope_type 'default'.",
        )
    return float(rope["rope_theta"])


_HEAD = (Rename("head.dense", "head.transform.dense"), Rename("head.norm", "head.transform.norm"))
_CLASSIFIER = (*_HEAD, Rename("classifier", "head.output"))

DEFINITIONS = {
    "modernbert": Definition(
        config=ModernBertConfig,
        spec=spec,
        base_prefix="model",
        rules=(
            Rename("embeddings.tok_embeddings", "embeddings.tokens"),
            Fuse("layers.{}.attn.Wqkv", tuple(f"layers.{{}}.self_attn.{part}_proj" for part in "qkv")),
            Rename("layers.{}.attn.Wo", "layers.{}.self_attn.o_proj"),
            Fuse("layers.{}.mlp.Wi", ("layers.{}.mlp.gate_proj", "layers.{}.mlp.up_proj")),
            Rename("layers.{}.mlp.Wo", "layers.{}.mlp.down_proj"),
            Rename("final_norm", "norm"),
        ),
        head_rules={
            "ForMaskedLM": (*_HEAD, Rename("decoder", "head.output")),
            "ForSequenceClassification": _CLASSIFIER,
            "ForMultipleChoice": _CLASSIFIER,
            "ForTokenClassification": _CLASSIFIER,
            "ForQuestionAnswering": _CLASSIFIER,
        },
    )
}
