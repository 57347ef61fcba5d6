"""Labels and scores for whole texts: text-classification, alias sentiment-analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from formers.errors import InputError
from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.encoding import Row, Text, TextOptions, require_text

_FUNCTIONS = ("default", "sigmoid", "softmax", "none")


@dataclass(frozen=True)
class TextClassificationOptions(TextOptions):
    """`top_k`: how many labels, None for all; left out (""), the best label alone, not in a list.

    `function_to_apply`: "sigmoid", "softmax", "none", or "default", which is told from the model's configuration.
    `return_all_scores` is the older spelling of top_k=None (in the order of the labels). `text_pair` joins every text.
    """

    top_k: int | Literal[""] | None = ""
    function_to_apply: str | None = None
    return_all_scores: bool | None = None
    text_pair: str | None = None

    def __post_init__(self) -> None:
        function = self.function_to_apply
        if function is not None and (str(function).lower() not in _FUNCTIONS):
            raise InputError(f"function_to_apply={function!r} is not known.", f"Use one of {', '.join(_FUNCTIONS)}.")
        if isinstance(self.top_k, int) and self.top_k < 1:
            raise InputError(f"top_k={self.top_k} was given.", "Ask for at least one label, or for all with None.")


class TextClassificationPipeline(Pipeline[TextClassificationOptions]):
    """Classify texts, or pairs of texts given as {"text": …, "text_pair": …}.

    A text gives a list with one {"label", "score"}; a list of texts gives one such dict a text. With `top_k` every text
    gives a list of dicts, best first.
    """

    Options = TextClassificationOptions

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **options: Any
    ) -> Any:
        """Classify one text or pair, a list of them, or a stream."""
        result = super().__call__(inputs, batch_size=batch_size, num_workers=num_workers, **options)
        return [result] if isinstance(inputs, str) and "top_k" not in options else result

    def preprocess(self, inputs: Sequence[Any], options: TextClassificationOptions) -> list[Prepared]:
        """Tokenize texts and pairs."""
        rows = self.encoder.rows([_text(item, options.text_pair) for item in inputs], options)
        return [Prepared([row]) for row in rows]

    def forward(self, rows: Sequence[Row], options: TextClassificationOptions) -> Sequence[Any]:
        """Scores, one list of floats a row."""
        logits = self.model(**self.encoder.collate(rows, self.device)).logits
        scores: list[list[float]] = self._scores(logits.float(), options.function_to_apply).tolist()
        return scores

    def postprocess(self, prepared: Prepared, outputs: Sequence[Any], options: TextClassificationOptions) -> Any:
        """The best label, or several."""
        scores: list[float] = outputs[0]
        labels: Mapping[int, str] = self.model.config.id2label or {}
        top_k = options.top_k
        if top_k == "" and not options.return_all_scores:
            best = max(range(len(scores)), key=scores.__getitem__)
            return {"label": labels[best], "score": scores[best]}
        answers: list[dict[str, Any]] = [{"label": labels[index], "score": score} for index, score in enumerate(scores)]
        if top_k == "":
            return answers
        answers.sort(key=lambda answer: float(answer["score"]), reverse=True)
        return answers if top_k is None else answers[:top_k]

    def _scores(self, logits: Tensor, function: str | None) -> Tensor:
        function = (function or "default").lower()
        if function == "default":
            config = self.model.config
            if config.problem_type == "regression":
                function = "none"
            elif config.problem_type == "multi_label_classification" or config.num_labels == 1:
                function = "sigmoid"
            else:
                function = "softmax"
        if function == "none":
            return logits
        return logits.sigmoid() if function == "sigmoid" else logits.softmax(-1)


def _text(item: Any, text_pair: str | None) -> Text:
    """The text or the pair of texts that an input stands for."""
    if isinstance(item, str):
        return item if text_pair is None else (item, text_pair)
    if isinstance(item, Mapping):
        unknown = sorted(map(str, item.keys() - {"text", "text_pair"}))
        if unknown or "text" not in item:
            raise InputError(
                f"An input is a dictionary with the keys {sorted(map(str, item))}.",
                'Use {"text": …} or {"text": …, "text_pair": …}; of a dataset, pass the column of texts.',
            )
        pair = item.get("text_pair")
        return require_text(item["text"]) if pair is None else (require_text(item["text"]), require_text(pair))
    if isinstance(item, list):
        if len(item) == 1 and isinstance(item[0], (list, tuple)) and len(item[0]) == 2:
            return (require_text(item[0][0]), require_text(item[0][1]))
        raise InputError(
            "An input is a list.", 'Pass a pair of texts as a dictionary: {"text": "…", "text_pair": "…"}.'
        )
    return require_text(item)
