"""Hidden states of texts: feature-extraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.encoding import Row, TextOptions, require_text


@dataclass(frozen=True)
class FeatureExtractionOptions(TextOptions):
    """`return_tensors`: answer with tensors instead of nested lists."""

    return_tensors: bool = False


class FeatureExtractionPipeline(Pipeline[FeatureExtractionOptions]):
    """The model's first output for each text: (1, tokens, width) hidden states, as nested lists or a tensor.

    The padding of a batch is never part of an answer.
    """

    Options = FeatureExtractionOptions
    # Answers are large: a smaller window holds fewer of them at once.
    window = 256

    def preprocess(self, inputs: Sequence[Any], options: FeatureExtractionOptions) -> list[Prepared]:
        """Tokenize texts."""
        rows = self.encoder.rows([require_text(item) for item in inputs], options)
        return [Prepared([row]) for row in rows]

    def forward(self, rows: Sequence[Row], options: FeatureExtractionOptions) -> Sequence[Any]:
        """The first output of each row, without padding."""
        output = self.model(**self.encoder.collate(rows, self.device))[0]
        per_token = output.dim() == 3
        return [output[i : i + 1, : len(row)] if per_token else output[i : i + 1] for i, row in enumerate(rows)]

    def postprocess(self, prepared: Prepared, outputs: Sequence[Any], options: FeatureExtractionOptions) -> Any:
        """A tensor of its own (one that gradients may flow through later), or nested lists."""
        features = outputs[0].cpu()
        return features.clone() if options.return_tensors else features.tolist()
