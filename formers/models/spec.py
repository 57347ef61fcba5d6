"""What a model is, in neutral terms: the skeletons are built from a ModelSpec and know nothing of families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from formers.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from formers.configuration import PreTrainedConfig
    from formers.layers.norms import NormKind
    from formers.layers.rotary import Rotary
    from formers.models.keys import Rule


# How a sequence becomes one vector: its first token, the mean of its tokens, or its first token that is not padding.
Pooling = Literal["cls", "mean", "first"]


@dataclass(frozen=True)
class Transform:
    """Dense layer, activation and norm that a head applies before its last product. `width` None keeps the input's.

    `dropout` stands before the dense layer.
    """

    activation: str | None
    norm: bool = False
    bias: bool = True
    width: int | None = None
    dropout: float = 0.0


@dataclass(frozen=True)
class HeadSpec:
    """How a family's heads are made.

    `pooler` belongs to the bare model (its pooler_output). A head on whole sequences uses `classifier` or
    `multiple_choice` where given, else the pooler; `token` stands before logits of single tokens.
    """

    dropout: float
    pooler: Transform | None = None
    classifier: Transform | None = None
    multiple_choice: Transform | None = None
    token: Transform | None = None
    # Where they differ from `dropout`.
    choice_dropout: float | None = None
    token_dropout: float | None = None
    qa_dropout: float = 0.0
    masked_lm: Transform | None = None
    decoder_bias: bool = True
    # Labels of next tokens stand where these are predicted, not where they are.
    labels_ahead: bool = False
    # A bias of the vocabulary's logits (1, V) that is not trained (BART, Marian).
    logits_bias: bool = False
    # An encoder–decoder's decoder inputs from labels, (labels, config); None for `seq2seq.shift_right`.
    shift: Callable[[Tensor, PreTrainedConfig], Tensor] | None = None
    # Without decoder inputs an encoder–decoder reads its own inputs, shifted (BART, mBART).
    own_inputs: bool = False
    pooling: Pooling = "cls"
    # How choices are pooled; None: as `pooling`.
    choice_pooling: Pooling | None = None
    # Masked-token logits are computed only where labels differ from this.
    sparse_label: int | None = None
    # The loss of whole sequences, (logits, labels, config); None for `heads.classification_loss`.
    loss: Callable[[Tensor, Tensor, PreTrainedConfig], Tensor] | None = None


@dataclass(frozen=True)
class Experts:
    """Feed-forward layers of which a router picks `active` for each token (Shazeer et al., 2017).

    `normalise`: the chosen ones' weights sum to one.
    """

    count: int
    active: int
    width: int
    normalise: bool = True


@dataclass(frozen=True)
class ModelSpec:
    """One transformer. Widths in numbers of values, dropouts as probabilities, windows in tokens on either side."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    ff_width: int
    activation: str
    head: HeadSpec
    norm_eps: float = 1e-12
    norm_bias: bool = True
    norm: NormKind = "layer"
    norm_first: bool = False
    # Each half of a block is normalised before its residual is added (Gemma 2, OLMo 2).
    norm_outputs: bool = False
    # A norm after the last block; None: where the norms come first.
    final_norm: bool | None = None
    # Whether the first block has a norm before its attention, where norms come first.
    first_norm: bool = True
    # Attention and feed-forward read the same input, under one norm or two.
    parallel: bool = False
    parallel_norms: int = 2
    # Norms of queries and keys: one for every head, one a head, or one over all heads.
    query_key_norm: Literal["shared", "each", "whole"] | None = None
    embedding_width: int | None = None
    embedding_norm: bool = True
    embedding_scale: float | None = None
    positions: int | None = None
    # Positions count from padding_id + 1 over real tokens only (RoBERTa, MPNet).
    positions_after: int | None = None
    # The first position, where padding counts as well (BART, mBART).
    position_offset: int = 0
    # Positions are sines, then cosines, of fixed rates: a frozen table that files hold, or computed without an end.
    sinusoids: Literal["stored", "computed"] | None = None
    # A new model's positions start as sines and cosines (Vaswani et al., 2017).
    sinusoidal_positions: bool = False
    token_types: int = 0
    pad_token_id: int | None = None
    # Key and value heads, each shared by several query heads; None: one a head.
    kv_heads: int | None = None
    # Width of one head; None: width / heads.
    head_width: int | None = None
    attention_bias: bool = True
    # Bias of the attention's output, and of its keys; None: `attention_bias`.
    output_bias: bool | None = None
    key_bias: bool | None = None
    ff_bias: bool = True
    gated: bool = False
    causal: bool = False
    # Embeddings of padding are zero, and padding sees all tokens evenly (DeBERTa, both versions).
    even_padding: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    ff_dropout: float = 0.0
    # After each half of a block; None: `dropout`.
    attention_output_dropout: float | None = None
    ff_output_dropout: float | None = None
    embedding_dropout: float | None = None
    # After the last norm.
    final_dropout: float = 0.0
    # How likely a training leaves a layer out (Fan et al., 2020).
    layer_dropout: float = 0.0
    # Which stored block each layer runs; None: one block a layer.
    shared_layers: tuple[int, ...] | None = None
    windows: tuple[int | None, ...] | None = None
    rope_thetas: tuple[float, ...] | None = None
    # A decoder's rotary positions, by layer; None for a layer without.
    rotary: tuple[Rotary | None, ...] | None = None
    # Scores fall with the distance, at a slope of each head (Press et al., 2021).
    slopes: tuple[float, ...] | None = None
    # What multiplies the attention scores; None: the inverse root of the head's width.
    score_scale: float | None = None
    # Bounds x to cap * tanh(x / cap): attention scores, and logits.
    score_cap: float | None = None
    logit_cap: float | None = None
    # What multiplies the logits.
    logit_scale: float | None = None
    # Layers whose feed-forward is a choice of experts; None for none of them.
    experts: tuple[Experts | None, ...] | None = None
    # Divides the attention scores further, as disentangled attention does.
    score_terms: int = 1
    initializer_range: float = 0.02
    # Deviation of a new weight by (name, shape), for families that scale none of what it is multiplied with.
    deviation: Callable[[str, Sequence[int]], float] | None = None
    # Modules that a family swaps in: (spec) -> embeddings, (spec) -> position bias, (spec, index) -> block.
    embeddings: Callable[[ModelSpec], nn.Module] | None = None
    position_bias: Callable[[ModelSpec], nn.Module] | None = None
    block: Callable[[ModelSpec, int], nn.Module] | None = None
    # A decoder's layers read states of this width by cross-attention; None: they have none.
    cross_width: int | None = None
    # The encoder whose states this decoder reads, in an encoder–decoder.
    encoder: ModelSpec | None = None
    # What an encoder of sound reads: states of a recording, and bands of its frames.
    frames: tuple[int, int] | None = None
    # Whether encoder, decoder and logits share the embeddings; None: as config.tie_word_embeddings says.
    shared_embeddings: bool | None = None
    # The decoder of an encoder–decoder shares none with the encoder in any case.
    own_embeddings: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "heads", "ff_width"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"The configuration gives {name} = {value!r}; a positive whole number is expected.",
                    "Correct config.json.",
                )
        if self.heads % self.key_heads:
            raise ConfigError(
                f"{self.heads} attention heads cannot share {self.key_heads} key and value heads evenly.",
                "Correct num_attention_heads or num_key_value_heads in the configuration.",
            )
        if self.head_width is None and self.width % self.heads:
            raise ConfigError(
                f"The hidden size ({self.width}) is not a multiple of the number of attention heads ({self.heads}).",
                "Correct hidden_size or num_attention_heads in the configuration.",
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.head_width or self.width // self.heads

    @property
    def key_heads(self) -> int:
        """How many key and value heads there are."""
        return self.kv_heads or self.heads

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm follows the last block."""
        return self.norm_first if self.final_norm is None else self.final_norm

    @property
    def first_position(self) -> int:
        """The position of a sequence's first token."""
        return self.position_offset if self.positions_after is None else self.positions_after + 1

    @property
    def attention_scale(self) -> float:
        """What multiplies the attention scores."""
        return float((self.head_dim * self.score_terms) ** -0.5) if self.score_scale is None else self.score_scale

    @property
    def plain_blocks(self) -> bool:
        """Whether the layers can answer for some of their tokens alone."""
        return self.layers > 0 and self.block is None and self.position_bias is None

    @property
    def blocks(self) -> int:
        """How many blocks are stored."""
        return self.layers if self.shared_layers is None else max(self.shared_layers, default=-1) + 1


# What `Definition.architectures` is for a decoder.
DECODER: Mapping[str, str] = {
    "Model": "Decoder",
    "ForCausalLM": "DecoderForCausalLM",
    "LMHeadModel": "DecoderForCausalLM",
    "ForQuestionAnswering": "DecoderForQuestionAnswering",
    "ForSequenceClassification": "DecoderForSequenceClassification",
    "ForTokenClassification": "DecoderForTokenClassification",
}

# What it is for an encoder–decoder.
SEQ2SEQ: Mapping[str, str] = {
    "ForConditionalGeneration": "Seq2SeqForConditionalGeneration",
    "ForQuestionAnswering": "Seq2SeqForQuestionAnswering",
    "ForSequenceClassification": "Seq2SeqForSequenceClassification",
    "MTModel": "Seq2SeqForConditionalGeneration",
    "Model": "Seq2Seq",
}


@dataclass(frozen=True)
class Definition:
    """One family: its configuration, its spec and its checkpoint keys.

    `base_prefix` is the name of the encoder inside a checkpoint with a head. `rules` map modules of the encoder,
    `head_rules` those of each head by name, and `configured_rules` gives those that a configuration decides, by head
    name or "Model" for the encoder. `ignored` are checkpoint keys without use; `optional` those that files
    need not have, and `unsaved`, by head, those that they are not given.
    """

    config: type[PreTrainedConfig]
    spec: Callable[[Any], ModelSpec]
    base_prefix: str
    rules: Sequence[Rule]
    head_rules: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    configured_rules: Callable[[Any], Mapping[str, Sequence[Rule]]] | None = None
    ignored: Sequence[str] = ()
    optional: Sequence[str] = ()
    unsaved: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # Heads below which the base model has another name than `base_prefix`.
    prefixes: Mapping[str, str] = field(default_factory=dict)
    # Heads whose architecture has another name than the head.
    architectures: Mapping[str, str] = field(default_factory=dict)
    # The bare model that heads stand on.
    base: Literal["Model", "EncoderModel", "DecoderModel"] = "Model"
    # The models that stand on one half of an encoder–decoder, with that half's definition. An encoder that can be the
    # decoder of another has DecoderModel and DecoderLMHeadModel.
    halves: Mapping[str, Definition] = field(default_factory=dict)
