"""Answers found in a text: question-answering, by marking where the answer starts and ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from formers.errors import InputError
from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.encoding import Row, Text, TextOptions
from formers.pipelines.spans import best_spans

_PADDINGS = (None, False, True, "do_not_pad", "longest", "max_length")


@dataclass(frozen=True)
class QuestionAnsweringOptions(TextOptions):
    """`top_k`: how many answers; `max_answer_len`, `max_seq_len`: the most tokens of an answer and of a piece.

    A context that is too long for one piece is cut into several, which overlap by `doc_stride` tokens.
    `max_question_len`: the most tokens of the question (left out: all of it). `handle_impossible_answer`: an empty
    answer counts too. `align_to_words`: answers are whole words.
    """

    aliases: ClassVar[Mapping[str, str]] = {"topk": "top_k"}

    top_k: int = 1
    doc_stride: int | None = None
    max_answer_len: int = 15
    max_seq_len: int | None = None
    max_question_len: int | None = None
    handle_impossible_answer: bool = False
    align_to_words: bool = True

    def __post_init__(self) -> None:
        for name in ("top_k", "max_answer_len", "max_seq_len", "max_question_len"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value} was given.", "Give a number of at least 1.")
        padding = self.tokenizer_arguments.get("padding")
        if padding not in _PADDINGS:
            raise InputError(f"padding={padding!r} is not known.", f"Use one of {_PADDINGS}, or leave it out.")


class QuestionAnsweringPipeline(Pipeline[QuestionAnsweringOptions]):
    """Find answers to questions in contexts.

    Called with question= and context= (texts or lists of texts), with {"question", "context"} dictionaries, a list of
    them, or a stream. One question gives {"score", "start", "end", "answer"} (characters of the context), or with
    `top_k` a list of them; several questions give a list of these.
    """

    Options = QuestionAnsweringOptions
    # One input may be many rows.
    window = 128

    def __call__(
        self,
        *inputs: Any,
        question: str | Sequence[str] | None = None,
        context: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **options: Any,
    ) -> Any:
        """Answer one question, a list of questions, or a stream."""
        for older in ("data", "X"):
            if older in options:
                inputs = (*inputs, options.pop(older))
        asked: Any
        if question is not None or context is not None:
            if inputs:
                raise InputError("There are inputs besides question= and context=.", "Give the one or the other.")
            asked = _paired(question, context)
        elif len(inputs) == 2 and all(isinstance(text, str) for text in inputs):
            asked = _paired(*inputs)
        elif len(inputs) == 1:
            asked = inputs[0]
        elif inputs:
            asked = list(inputs)
        else:
            raise InputError("There is no question.", "Pass question= and context=.")
        if isinstance(asked, Sequence) and not isinstance(asked, str) and len(asked) == 1:
            asked = asked[0]
        return super().__call__(asked, batch_size=batch_size, num_workers=num_workers, **options)

    @staticmethod
    def create_sample(question: Any, context: Any) -> Any:
        """The dictionary, or list of dictionaries, of questions with their contexts."""
        return _paired(question, context)

    def is_single(self, inputs: Any) -> bool:
        """Whether `inputs` is one question."""
        return hasattr(inputs, "question_text") or super().is_single(inputs)

    def preprocess(self, inputs: Sequence[Any], options: QuestionAnsweringOptions) -> list[Prepared]:
        """Tokenize questions with contexts, long contexts into several overlapping rows."""
        pairs = [_parse(item) for item in inputs]
        longest, stride = self._sizes(options)
        questions = [self._short_question(question, options.max_question_len) for question, _ in pairs]
        contexts = [context for _, context in pairs]
        question_first = self._question_first
        texts: list[Text] = [(q, c) if question_first else (c, q) for q, c in zip(questions, contexts, strict=True)]
        rows = self.encoder.pieces(
            texts,
            options,
            longest=longest,
            stride=stride,
            strategy="only_second" if question_first else "only_first",
            wanted={"return_offsets_mapping": True},
        )
        return [Prepared(own, context) for own, context in zip(rows, contexts, strict=True)]

    def forward(self, rows: Sequence[Row], options: QuestionAnsweringOptions) -> Sequence[Any]:
        """Logits of starts and of ends, (tokens,) each, for each row."""
        output = self.model(**self.encoder.collate(rows, self.device))
        start, end = (logits.float().cpu().numpy() for logits in (output.start_logits, output.end_logits))
        return [(start[index, : len(row)], end[index, : len(row)]) for index, row in enumerate(rows)]

    def postprocess(self, prepared: Prepared, outputs: Sequence[Any], options: QuestionAnsweringOptions) -> Any:
        """The likeliest answers of all rows; equal answers share their scores."""
        # Aligning to words makes spans equal: look at more of them.
        candidates = options.top_k * 2 + 10 if options.align_to_words else options.top_k
        answers: dict[str, dict[str, Any]] = {}
        null = 1.0
        for row, (start, end) in zip(prepared.rows, outputs, strict=True):
            spans = best_spans(start, end, self._allowed(row), candidates, options.max_answer_len)
            null = min(null, spans.null)
            for first, last, score in zip(spans.starts, spans.ends, spans.scores, strict=True):
                begin, stop = self._characters(row, first, last, options.align_to_words)
                text = prepared.source[begin:stop]
                known = answers.get(text.lower())
                if known is None:
                    answers[text.lower()] = {"score": score, "start": begin, "end": stop, "answer": text}
                else:
                    known["score"] += score
        found = list(answers.values())
        if options.handle_impossible_answer:
            found.append({"score": null, "start": 0, "end": 0, "answer": ""})
        found = sorted(found, key=lambda answer: float(answer["score"]), reverse=True)[: options.top_k]
        return found[0] if len(found) == 1 else found

    @property
    def _question_first(self) -> bool:
        return bool(self.tokenizer.padding_side == "right")

    def _sizes(self, options: QuestionAnsweringOptions) -> tuple[int, int]:
        """Tokens of a row and of the overlap of two."""
        limit = self.encoder.limit
        longest = options.max_seq_len or min(384, limit or 384)
        if limit is not None and longest > limit:
            raise InputError(f"max_seq_len={longest} was given; this model takes at most {limit} tokens.", "Lower it.")
        stride = min(longest // 2, 128) if options.doc_stride is None else options.doc_stride
        if stride > longest:
            raise InputError(f"doc_stride ({stride}) is larger than max_seq_len ({longest}).", "Lower doc_stride.")
        return longest, stride

    def _short_question(self, question: str, most: int | None) -> str:
        if most is None:
            return question
        offsets = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return question if len(offsets) <= most else question[: offsets[most - 1][1]]

    def _allowed(self, row: Row) -> Any:
        """Where an answer may lie: tokens of the context, and the first token, which stands for "no answer"."""
        sequence = 1 if self._question_first else 0
        allowed = np.array([place == sequence for place in row.batch.sequence_ids(row.index)])
        if self.tokenizer.cls_token_id is not None:
            allowed |= np.array(row.ids) == self.tokenizer.cls_token_id
        return allowed

    def _characters(self, row: Row, first: int, last: int, align: bool) -> tuple[int, int]:
        """Characters of the context from the first to the last token, or from the first to the last word of them."""
        batch, index = row.batch, row.index
        sequence = 1 if self._question_first else 0
        if align:
            begin, stop = batch.token_to_word(index, first), batch.token_to_word(index, last)
            if begin is not None and stop is not None:
                start, end = (batch.word_to_chars(index, word, sequence) for word in (begin, stop))
                if start is not None and end is not None:
                    return start.start, end.end
        offsets = batch["offset_mapping"][index]
        return offsets[first][0], offsets[last][1]


def _paired(question: Any, context: Any) -> Any:
    """Questions with their contexts; one context may serve several questions."""
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    if isinstance(question, (list, tuple)) and isinstance(context, (str, list, tuple)):
        contexts = [context] * len(question) if isinstance(context, str) else context
        if len(contexts) != len(question):
            raise InputError(
                f"There are {len(question)} questions and {len(contexts)} contexts.",
                "Give one context for all questions, or one a question.",
            )
        return [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]
    raise InputError(
        f"question is of type {type(question).__name__} and context of type {type(context).__name__}.",
        "Pass two texts, a list of questions with one context, or two lists.",
    )


def _parse(item: Any) -> tuple[str, str]:
    """Question and context of one input."""
    if hasattr(item, "question_text") and hasattr(item, "context_text"):
        item = {"question": item.question_text, "context": item.context_text}
    if not isinstance(item, Mapping) or "question" not in item or "context" not in item:
        keys = f" with the keys {sorted(map(str, item))}" if isinstance(item, Mapping) else ""
        raise InputError(
            f"An input is of type {type(item).__name__}{keys}.",
            'Pass question= and context=, or dictionaries {"question": …, "context": …}.',
        )
    for name in ("question", "context"):
        if not isinstance(item[name], str) or not item[name]:
            raise InputError(f"An input's {name} is {item[name]!r}.", "Give a text that is not empty.")
    return item["question"], item["context"]
