"""Labels that a text was never trained on, through a model of natural language inference: zero-shot-classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from formers.errors import InputError
from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.encoding import Row, TextOptions, require_text
from formers.pipelines.notice import warn


@dataclass(frozen=True)
class ZeroShotOptions(TextOptions):
    """`candidate_labels`: a list, or one text with commas; `hypothesis_template` has {} where a label goes.

    `multi_label`: every label is judged alone (entailed or contradicted), instead of sharing one distribution.
    """

    aliases: ClassVar[Mapping[str, str]] = {"multi_class": "multi_label"}

    candidate_labels: str | Sequence[str] | None = None
    hypothesis_template: str = "This example is {}."
    multi_label: bool = False

    def labels(self) -> list[str]:
        """The candidate labels as a list."""
        given = self.candidate_labels
        if isinstance(given, str):
            given = [label.strip() for label in given.split(",") if label.strip()]
        if not given:
            raise InputError("There are no candidate labels.", 'Pass candidate_labels=["…", "…"].')
        if self.hypothesis_template.format(given[0]) == self.hypothesis_template:
            raise InputError(
                f"The hypothesis_template {self.hypothesis_template!r} has no place for a label.", "Put {} into it."
            )
        return list(given)


class ZeroShotClassificationPipeline(Pipeline[ZeroShotOptions]):
    """Judge candidate labels of a text; answers with {"sequence", "labels", "scores"}, best first."""

    Options = ZeroShotOptions
    # Every input is as many rows as there are labels.
    window = 256

    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        if self.entailment_id == -1:
            warn(
                "The model's label2id has no label that starts with 'entail'; its last label is taken for it. "
                "Set config.label2id of a model of natural language inference."
            )

    @property
    def entailment_id(self) -> int:
        """The index of the label that stands for entailment, -1 if none is named so."""
        labels: Mapping[str, int] = self.model.config.label2id or {}
        return next((index for label, index in labels.items() if label.lower().startswith("entail")), -1)

    def __call__(  # type: ignore[override]
        self,
        sequences: Any,
        candidate_labels: str | Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **options: Any,
    ) -> Any:
        """Classify one text, a list of texts, or a stream."""
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        return super().__call__(sequences, batch_size=batch_size, num_workers=num_workers, **options)

    def preprocess(self, inputs: Sequence[Any], options: ZeroShotOptions) -> list[Prepared]:
        """One row a label: the text, and the label as a hypothesis about it."""
        hypotheses = [options.hypothesis_template.format(label) for label in options.labels()]
        texts = [require_text(item) for item in inputs]
        if not all(texts):
            raise InputError("An input is an empty text.", "Leave empty texts out.")
        pairs = [(text, hypothesis) for text in texts for hypothesis in hypotheses]
        rows = self.encoder.rows(pairs, options, strategy="only_first")
        count = len(hypotheses)
        return [Prepared(rows[i * count : (i + 1) * count], text) for i, text in enumerate(texts)]

    def forward(self, rows: Sequence[Row], options: ZeroShotOptions) -> Sequence[Any]:
        """The logits of each row."""
        logits = self.model(**self.encoder.collate(rows, self.device)).logits
        return list(logits.float().cpu().numpy())

    def postprocess(self, prepared: Prepared, outputs: Sequence[Any], options: ZeroShotOptions) -> Any:
        """Labels and scores, best first."""
        labels = options.labels()
        logits = np.stack(outputs)
        entailment = self.entailment_id
        if options.multi_label or len(labels) == 1:
            contradiction = -1 if entailment == 0 else 0
            scores = _softmax(logits[:, [contradiction, entailment]])[:, 1]
        else:
            scores = _softmax(logits[:, entailment])
        order = scores.argsort()[::-1]
        return {
            "sequence": prepared.source,
            "labels": [labels[index] for index in order],
            "scores": scores[order].tolist(),
        }


def _softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
