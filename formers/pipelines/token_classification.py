"""Labels for the tokens of a text, and entities made of them: token-classification, alias ner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from formers.errors import InputError
from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.encoding import Row, Text, TextOptions, require_text
from formers.pipelines.entities import STRATEGIES, Aggregator, Scores, Token, without_overlaps

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class TokenClassificationOptions(TextOptions):
    """`aggregation_strategy`: "none" (one entity a token), "simple", "first", "average" or "max".

    `ignore_labels`: labels to leave out, ["O"] by default. `stride`: cut a long text into pieces that overlap by so
    many tokens, instead of truncating it. `is_split_into_words`: inputs are lists of words, joined by `delimiter` for
    the offsets. `offset_mapping`: offsets of the tokens to use instead of the tokenizer's, one list a text.
    `grouped_entities` and `ignore_subwords` are the older spelling of "simple" and "first".
    """

    aggregation_strategy: str | None = None
    ignore_labels: Sequence[str] = ("O",)
    stride: int | None = None
    is_split_into_words: bool = False
    delimiter: str | None = None
    offset_mapping: Offsets | Sequence[Offsets] | None = None
    grouped_entities: bool | None = None
    ignore_subwords: bool | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError(
                f"aggregation_strategy={self.aggregation_strategy!r} is not known.",
                f"Use one of {', '.join(STRATEGIES)}.",
            )
        if self.stride is not None and self.aggregation_strategy is not None and self.strategy == "none":
            raise InputError(
                "stride= was given together with aggregation_strategy='none'.",
                "Choose another strategy, such as 'simple': overlapping pieces are joined by their entities.",
            )

    @property
    def strategy(self) -> str:
        """The strategy, whichever way it was asked for."""
        if self.grouped_entities is not None or self.ignore_subwords is not None:
            if not self.grouped_entities:
                return "none"
            return "first" if self.ignore_subwords else "simple"
        # The reference's enumeration prints as its value.
        return str(getattr(self.aggregation_strategy, "value", self.aggregation_strategy or "none")).lower()


class _Given(NamedTuple):
    """A text with the caller's offsets of its tokens."""

    text: Any
    offsets: Offsets


@dataclass(slots=True)
class _Text:
    """A text as tokenized: whole, or as words with the character each starts at; offsets given by the caller."""

    text: str
    words: list[str] | None
    starts: list[int]
    offsets: Offsets | None


class TokenClassificationPipeline(Pipeline[TokenClassificationOptions]):
    """Label the tokens of texts.

    A text gives a list of {"entity", "score", "index", "word", "start", "end"}, with an aggregation strategy a list of
    {"entity_group", "score", "word", "start", "end"}; a list of texts gives one such list a text.
    """

    Options = TokenClassificationOptions

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **options: Any
    ) -> Any:
        """Label one text, a list of texts (or of lists of words), or a stream."""
        chosen = self.options(options)
        if chosen.is_split_into_words and isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], str):
            inputs = [list(inputs)]
        if chosen.offset_mapping is not None:
            inputs = _with_offsets(inputs, chosen.offset_mapping)
        return super().__call__(inputs, batch_size=batch_size, num_workers=num_workers, **options)

    def is_single(self, inputs: Any) -> bool:
        """Whether `inputs` is one text."""
        return isinstance(inputs, _Given) or super().is_single(inputs)

    def preprocess(self, inputs: Sequence[Any], options: TokenClassificationOptions) -> list[Prepared]:
        """Tokenize texts with offsets, long ones into several rows where a stride is given."""
        texts = [_parse(item, options) for item in inputs]
        sources: list[Text] = [text.text if text.words is None else text.words for text in texts]
        wanted = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
        if options.is_split_into_words:
            wanted["is_split_into_words"] = True
        if options.stride is None:
            rows = [[row] for row in self.encoder.rows(sources, options, wanted=wanted)]
        else:
            rows = self.encoder.pieces(
                sources, options, longest=self._longest(options), stride=options.stride, wanted=wanted
            )
        return [Prepared(own, text) for own, text in zip(rows, texts, strict=True)]

    def _longest(self, options: TokenClassificationOptions) -> int:
        """Tokens of a piece."""
        limit = options.max_length or self.encoder.limit
        if limit is None or (options.stride or 0) >= limit:
            raise InputError(
                f"stride={options.stride} was given, and texts are cut to {limit} tokens.",
                "The stride must be smaller than the longest input of the model, which the tokenizer must know.",
            )
        return limit

    def forward(self, rows: Sequence[Row], options: TokenClassificationOptions) -> Sequence[Any]:
        """Probabilities (tokens, labels) of each row."""
        logits = self.model(**self.encoder.collate(rows, self.device)).logits
        scores = logits.float().softmax(-1).cpu().numpy()
        return [scores[index, : len(row)] for index, row in enumerate(rows)]

    def postprocess(
        self, prepared: Prepared, outputs: Sequence[Any], options: TokenClassificationOptions
    ) -> list[dict[str, Any]]:
        """Tokens to entities, without the labels to ignore."""
        labels: Mapping[int, str] = self.model.config.id2label or {}
        aggregator = Aggregator(options.strategy, labels, self.tokenizer.convert_tokens_to_string)
        key = "entity" if options.strategy == "none" else "entity_group"
        found = [
            entity
            for row, scores in zip(prepared.rows, outputs, strict=True)
            for entity in aggregator.entities(self._tokens(row, scores, prepared.source))
            if entity[key] not in options.ignore_labels
        ]
        return found if len(prepared.rows) == 1 else without_overlaps(found)

    def _tokens(self, row: Row, scores: Scores, text: _Text) -> list[Token]:
        """The row's tokens that are not special."""
        special = row.batch["special_tokens_mask"][row.index]
        offsets = row.batch["offset_mapping"][row.index] if text.offsets is None else text.offsets
        word_ids = row.batch.word_ids(row.index) if text.words is not None else None
        words = self.tokenizer.convert_ids_to_tokens(row.ids)
        marked = self.tokenizer.continuing_subword_prefix is not None
        tokens = []
        for index, word in enumerate(words):
            if special[index]:
                continue
            start, end = offsets[index]
            place = None if word_ids is None else word_ids[index]
            if place is not None:
                start, end = text.starts[place] + start, text.starts[place] + end
            written = text.text[start:end]
            if row.ids[index] == self.tokenizer.unk_token_id:
                word, continues = written, False
            elif marked:
                continues = len(word) != len(written)
            else:
                continues = start > 0 and " " not in text.text[start - 1 : start + 1]
            tokens.append(Token(word, scores[index], index, int(start), int(end), continues))
        return tokens


def _parse(item: Any, options: TokenClassificationOptions) -> _Text:
    item, offsets = item if isinstance(item, _Given) else (item, None)
    if not options.is_split_into_words:
        return _Text(require_text(item), None, [], offsets)
    if not isinstance(item, (list, tuple)) or not all(isinstance(word, str) for word in item):
        raise InputError(
            f"With is_split_into_words=True an input is of type {type(item).__name__}.",
            "Pass a list of words, or a list of such lists.",
        )
    delimiter = " " if options.delimiter is None else options.delimiter
    starts, place = [], 0
    for word in item:
        starts.append(place)
        place += len(word) + len(delimiter)
    return _Text(delimiter.join(item), list(item), starts, offsets)


def _with_offsets(inputs: Any, offsets: Any) -> Any:
    """One text, or a list of texts, together with the offsets of the tokens of each."""
    if isinstance(inputs, str):
        return _Given(inputs, offsets[0] if len(offsets) == 1 and not isinstance(offsets[0], tuple) else offsets)
    if not isinstance(inputs, (list, tuple)) or len(offsets) != len(inputs):
        raise InputError(
            f"offset_mapping has {len(offsets)} entries for inputs of type {type(inputs).__name__}.",
            "Give the texts in a list, and one list of offsets a text.",
        )
    return [_Given(text, own) for text, own in zip(inputs, offsets, strict=True)]
