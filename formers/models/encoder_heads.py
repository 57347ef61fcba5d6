"""Encoders with heads, once for all families. Shapes: B sequences, S tokens, W width, V vocabulary."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from formers.configuration import PreTrainedConfig
from formers.errors import InputError
from formers.models.base import PreTrainedModel
from formers.models.encoder import Encoded, EncoderModel
from formers.models.heads import (
    OutputHead,
    class_loss,
    classification_loss,
    discriminator_loss,
    labels_padding,
    next_token_loss,
    pool,
    spans,
)
from formers.models.spec import Pooling, Transform
from formers.outputs import (
    CausalLMOutput,
    DiscriminatorOutput,
    MaskedLMOutput,
    ModelOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    PreTrainingOutput,
    QuestionAnsweringModelOutput,
    SentenceOrderOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

_TIED_DECODER = {"head.output.weight": "model.embeddings.tokens.weight"}


class EncoderWithHead(PreTrainedModel):
    """An encoder `model` with a `head` on its hidden states."""

    # The bare model's class, set when the concrete class is made.
    base_class: ClassVar[type[EncoderModel]]

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = self.base_class(config, add_pooling_layer=self.uses_pooler())
        self.head = self.make_head()
        self.post_init()

    def uses_pooler(self) -> bool:
        """Whether the head stands on the bare model's pooler."""
        return False

    def first_only(self) -> bool:
        """Whether the head reads nothing but each sequence's first token."""
        return False

    def make_head(self) -> nn.Module:
        """The head: here, logits for each label."""
        head = self.spec.head
        dropout = head.dropout if head.token_dropout is None else head.token_dropout
        return OutputHead(self.spec, self.config.num_labels, head.token, dropout)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits of the head, with the loss when `labels` are given. Inputs as in EncoderModel.encode."""
        encoded = self.model.encode(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            labels_padding(labels, attention_mask),
            first_only=self.first_only(),
        )
        output = self.predict(encoded, attention_mask, labels)
        return self.finish(_with_states(output, encoded), return_dict)

    def predict(self, encoded: Encoded, attention_mask: Tensor | None, labels: Tensor | None) -> ModelOutput:
        """The head's logits and loss."""
        raise NotImplementedError


class _VocabularyHead(EncoderWithHead):
    tied = _TIED_DECODER

    def make_head(self) -> nn.Module:
        """Transform and product with the (tied) token embeddings."""
        head = self.spec.head
        return OutputHead(self.spec, self.spec.vocab_size, head.masked_lm, 0.0, bias=head.decoder_bias)


class ForMaskedLM(_VocabularyHead):
    """Vocabulary logits (B, S, V) for masked tokens. `labels` (B, S), -100 where there is nothing to predict."""

    def predict(self, encoded: Encoded, attention_mask: Tensor | None, labels: Tensor | None) -> MaskedLMOutput:
        """Logits and loss. A family with sparse labels gets logits (N, V) of the N labelled tokens alone."""
        hidden, sparse = encoded.padded(), self.spec.head.sparse_label
        if labels is not None and sparse is not None:
            hidden, labels = hidden[labels != sparse], labels[labels != sparse]
        logits = self.head(hidden)
        return MaskedLMOutput(None if labels is None else class_loss(logits, labels), logits)


class ForCausalLM(_VocabularyHead):
    """Vocabulary logits (B, S, V) for next tokens; causal when `config.is_decoder`. `labels` (B, S) are the inputs."""

    def predict(self, encoded: Encoded, attention_mask: Tensor | None, labels: Tensor | None) -> CausalLMOutput:
        """Logits and loss."""
        logits = self.head(encoded.padded())
        return CausalLMOutput(None if labels is None else next_token_loss(logits, labels), logits)


class ForTokenClassification(EncoderWithHead):
    """Logits (B, S, labels) for every token. `labels` (B, S), -100 where there is none."""

    def predict(self, encoded: Encoded, attention_mask: Tensor | None, labels: Tensor | None) -> TokenClassifierOutput:
        """Logits and loss."""
        logits = self.head(encoded.padded())
        return TokenClassifierOutput(None if labels is None else class_loss(logits, labels), logits)


class Discriminator(EncoderWithHead):
    """Logits (B, S) for tokens that were replaced (Clark et al., 2020). `labels` (B, S), 1 = replaced."""

    def make_head(self) -> nn.Module:
        """Transform and one logit a token."""
        return OutputHead(self.spec, 1, Transform(self.spec.activation), 0.0)

    def predict(self, encoded: Encoded, attention_mask: Tensor | None, labels: Tensor | None) -> DiscriminatorOutput:
        """Logits and loss."""
        logits = self.head(encoded.padded()).squeeze(-1)
        loss = None if labels is None else discriminator_loss(logits, labels, attention_mask)
        return DiscriminatorOutput(loss, logits)


class _SequenceHead(EncoderWithHead):
    """A head on whole sequences: the family's own transform, or the bare model's pooler."""

    def transform(self) -> Transform | None:
        """What stands before the last product, None for the pooler."""
        return self.spec.head.classifier

    def uses_pooler(self) -> bool:
        """A family without its own transform pools."""
        return self.transform() is None

    def pooling(self) -> Pooling:
        """How a sequence becomes one vector."""
        return self.spec.head.pooling

    def first_only(self) -> bool:
        """Whether nothing but each sequence's first token is read."""
        return self.pooling() == "cls"

    def make_head(self) -> nn.Module:
        """Transform, dropout, product."""
        return OutputHead(self.spec, self.config.num_labels, self.transform(), self.spec.head.dropout)

    def sequence_logits(self, encoded: Encoded, attention_mask: Tensor | None) -> Tensor:
        """Logits (B, outputs) of each sequence's pooled vector."""
        encoded.check_one_sequence_a_row()
        if self.first_only():
            vectors = encoded.first()
        else:
            vectors = pool(encoded.padded(), attention_mask, self.pooling())
        if self.model.pooler is not None:
            vectors = self.model.pooler(vectors)
        logits: Tensor = self.head(vectors)
        return logits


class ForSequenceClassification(_SequenceHead):
    """Logits (B, labels) for whole sequences. `labels` (B) classes, (B) numbers, or (B, labels) by problem type."""

    def predict(
        self, encoded: Encoded, attention_mask: Tensor | None, labels: Tensor | None
    ) -> SequenceClassifierOutput:
        """Logits and loss."""
        logits = self.sequence_logits(encoded, attention_mask)
        measure = self.spec.head.loss or classification_loss
        loss = None if labels is None else measure(logits, labels, self.config)
        return SequenceClassifierOutput(loss, logits)


class ForNextSentencePrediction(_SequenceHead):
    """Logits (B, 2): index 0, the second sentence follows the first. `labels` (B)."""

    def make_head(self) -> nn.Module:
        """One product on the pooled vector."""
        return OutputHead(self.spec, 2, None, 0.0)

    def predict(
        self, encoded: Encoded, attention_mask: Tensor | None, labels: Tensor | None
    ) -> NextSentencePredictorOutput:
        """Logits and loss."""
        logits = self.sequence_logits(encoded, attention_mask)
        return NextSentencePredictorOutput(None if labels is None else class_loss(logits, labels), logits)


class ForMultipleChoice(_SequenceHead):
    """Logits (B, choices). Inputs (B, choices, S); `labels` (B), the right choice."""

    def transform(self) -> Transform | None:
        """What stands before the last product, None for the pooler."""
        return self.spec.head.multiple_choice

    def pooling(self) -> Pooling:
        """How a choice becomes one vector."""
        return self.spec.head.choice_pooling or self.spec.head.pooling

    def make_head(self) -> nn.Module:
        """Transform, dropout, one logit a choice."""
        head = self.spec.head
        dropout = head.dropout if head.choice_dropout is None else head.choice_dropout
        return OutputHead(self.spec, 1, self.transform(), dropout)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits of every choice, with the loss when `labels` are given."""
        given = input_ids if input_ids is not None else inputs_embeds
        rank = 3 if input_ids is not None else 4
        if given is None or given.dim() != rank:
            got = None if given is None else tuple(given.shape)
            raise InputError(
                f"{type(self).__name__} got inputs of shape {got}.", "Pass (batch, choices, length) input_ids."
            )
        choices = given.shape[1]
        attention_mask = _rows(attention_mask)
        encoded = self.model.encode(
            _rows(input_ids),
            attention_mask,
            _rows(token_type_ids),
            _rows(position_ids),
            _rows(inputs_embeds),
            output_attentions,
            output_hidden_states,
            first_only=self.first_only(),
        )
        logits = self.sequence_logits(encoded, attention_mask).view(-1, choices)
        loss = None if labels is None else class_loss(logits, labels)
        return self.finish(_with_states(MultipleChoiceModelOutput(loss, logits), encoded), return_dict)


class ForQuestionAnswering(EncoderWithHead):
    """Logits (B, S) for the start and the end of an answer. `start_positions` and `end_positions` (B)."""

    def make_head(self) -> nn.Module:
        """Two logits a token."""
        head = self.spec.head
        return OutputHead(self.spec, 2, head.token, head.qa_dropout)

    def forward(  # type: ignore[override]  # these labels have other names
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits of both ends, with the loss when both positions are given."""
        encoded = self.model.encode(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            keep_padding=start_positions is not None,
        )
        found = spans(self.head(encoded.padded()), start_positions, end_positions)
        return self.finish(_with_states(QuestionAnsweringModelOutput(*found), encoded), return_dict)


class _PreTraining(_VocabularyHead):
    """Masked tokens and a pair's relation together."""

    pair_dropout: ClassVar[bool] = False

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        dropout = self.spec.head.dropout if self.pair_dropout else 0.0
        self.pair_head = OutputHead(self.spec, 2, None, dropout)
        self.post_init()

    def uses_pooler(self) -> bool:
        """The pair's logits stand on the pooler."""
        return True

    def both(
        self, encoded: Encoded, labels: Tensor | None, pair_labels: Tensor | None
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Loss (both label sets needed), token logits (B, S, V), pair logits (B, 2)."""
        assert self.model.pooler is not None
        encoded.check_one_sequence_a_row()
        hidden = encoded.padded()
        tokens, pairs = self.head(hidden), self.pair_head(self.model.pooler(hidden[:, 0]))
        if labels is None or pair_labels is None:
            return None, tokens, pairs
        return class_loss(tokens, labels) + class_loss(pairs, pair_labels), tokens, pairs


class ForPreTraining(_PreTraining):
    """Masked tokens and next sentence (Devlin et al., 2018)."""

    def forward(  # type: ignore[override]  # these labels have other names
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Both logits, with the loss when `labels` (B, S) and `next_sentence_label` (B) are given."""
        encoded = self.model.encode(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            labels_padding(labels, attention_mask),
        )
        output = PreTrainingOutput(*self.both(encoded, labels, next_sentence_label))
        return self.finish(_with_states(output, encoded), return_dict)


class ForSentenceOrderPreTraining(_PreTraining):
    """Masked tokens and sentence order (Lan et al., 2019)."""

    pair_dropout = True

    def forward(  # type: ignore[override]  # these labels have other names
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        sentence_order_label: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Both logits, with the loss when `labels` (B, S) and `sentence_order_label` (B) are given."""
        encoded = self.model.encode(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            labels_padding(labels, attention_mask),
        )
        output = SentenceOrderOutput(*self.both(encoded, labels, sentence_order_label))
        return self.finish(_with_states(output, encoded), return_dict)


def _rows(choices: Tensor | None) -> Tensor | None:
    return None if choices is None else choices.flatten(0, 1)


def _with_states(output: Any, encoded: Encoded) -> Any:
    output.hidden_states, output.attentions = encoded.hidden_states, encoded.attentions
    return output
