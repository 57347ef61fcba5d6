"""What models return: values by attribute, by key and by index; those that are None are left out of the last two."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from formers.layers.cache import Cache


@dataclass
class ModelOutput:
    """Base of all outputs. Shapes below: B sequences, S tokens, T of a decoder, W width, C labels, V vocabulary."""

    def _present(self) -> dict[str, Any]:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            return self._present()[key]
        return self.to_tuple()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._present())

    def __len__(self) -> int:
        return len(self._present())

    def __contains__(self, key: object) -> bool:
        return key in self._present()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default` when the output has none."""
        return self._present().get(key, default)

    def keys(self) -> KeysView[str]:
        """The names of the values that are there."""
        return self._present().keys()

    def values(self) -> ValuesView[Any]:
        """The values that are there."""
        return self._present().values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values that are there."""
        return self._present().items()

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are there, in order."""
        return tuple(self._present().values())


@dataclass
class BaseModelOutput(ModelOutput):
    """`last_hidden_state` (B, S, W); when asked for, `hidden_states` and `attentions` (B, heads, S, S) a layer."""

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class BaseModelOutputWithPooling(ModelOutput):
    """As BaseModelOutput, with `pooler_output` (B, W)."""

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class BaseModelOutputWithPast(ModelOutput):
    """As BaseModelOutput, with the cache `past_key_values`."""

    last_hidden_state: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class _WithLogits(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class MaskedLMOutput(_WithLogits):
    """`logits` (B, S, V)."""


@dataclass
class CausalLMOutput(_WithLogits):
    """`logits` (B, S, V)."""


@dataclass
class _WithLogitsAndPast(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CausalLMOutputWithPast(_WithLogitsAndPast):
    """`logits` (B, S, V) and the cache `past_key_values`."""


@dataclass
class CausalLMOutputWithCrossAttentions(CausalLMOutputWithPast):
    """As CausalLMOutputWithPast, with `cross_attentions` (B, heads, S, K) a layer."""

    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass
class SequenceClassifierOutputWithPast(_WithLogitsAndPast):
    """`logits` (B, C) and the cache `past_key_values`."""


@dataclass
class SequenceClassifierOutput(_WithLogits):
    """`logits` (B, C)."""


@dataclass
class NextSentencePredictorOutput(_WithLogits):
    """`logits` (B, 2): the second sentence follows, or does not."""


@dataclass
class TokenClassifierOutput(_WithLogits):
    """`logits` (B, S, C)."""


@dataclass
class MultipleChoiceModelOutput(_WithLogits):
    """`logits` (B, choices)."""


@dataclass
class DiscriminatorOutput(_WithLogits):
    """`logits` (B, S): how likely each token was replaced."""


@dataclass
class QuestionAnsweringModelOutput(ModelOutput):
    """`start_logits` and `end_logits` (B, S)."""

    loss: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class PreTrainingOutput(ModelOutput):
    """`prediction_logits` (B, S, V) and `seq_relationship_logits` (B, 2)."""

    loss: Tensor | None = None
    prediction_logits: Tensor | None = None
    seq_relationship_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class SentenceOrderOutput(ModelOutput):
    """`prediction_logits` (B, S, V) and `sop_logits` (B, 2)."""

    loss: Tensor | None = None
    prediction_logits: Tensor | None = None
    sop_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class Seq2SeqModelOutput(ModelOutput):
    """`last_hidden_state` (B, T, W) of the decoder, the cache, and what encoder and decoder return beside it."""

    last_hidden_state: Tensor | None = None
    past_key_values: Cache | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None


@dataclass
class _Seq2SeqWithLogits(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None


@dataclass
class Seq2SeqLMOutput(_Seq2SeqWithLogits):
    """`logits` (B, T, V) of the decoder; `cross_attentions` (B, heads, T, S) a layer when asked for."""


@dataclass
class Seq2SeqSequenceClassifierOutput(_Seq2SeqWithLogits):
    """`logits` (B, C)."""


@dataclass
class Seq2SeqQuestionAnsweringModelOutput(ModelOutput):
    """`start_logits` and `end_logits` (B, T)."""

    loss: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    past_key_values: Cache | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
