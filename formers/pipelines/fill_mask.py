"""Words for masked places: fill-mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from formers.errors import InputError
from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.encoding import Row, TextOptions, require_text
from formers.pipelines.notice import warn


@dataclass(frozen=True)
class FillMaskOptions(TextOptions):
    """`top_k`: how many words a mask; `targets`: the only words to consider, by `target_ids` in the vocabulary."""

    top_k: int | None = None
    targets: str | Sequence[str] | None = None
    target_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k={self.top_k} was given.", "Ask for at least one word.")


class FillMaskPipeline(Pipeline[FillMaskOptions]):
    """Predict the masked tokens of a text.

    A text with one mask gives a list of {"score", "token", "token_str", "sequence"}, best first; with several masks,
    one such list a mask, each as if alone. A list of texts gives a list of these, a list of one text that text's.
    """

    Options = FillMaskOptions

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **options: Any
    ) -> Any:
        """Fill the masks of one text, a list of texts, or a stream."""
        result = super().__call__(inputs, batch_size=batch_size, num_workers=num_workers, **options)
        return result[0] if isinstance(inputs, list) and len(inputs) == 1 else result

    def options(self, given: Mapping[str, Any]) -> FillMaskOptions:
        """The options, with targets looked up in the vocabulary."""
        if self.tokenizer.mask_token_id is None:
            raise InputError("The tokenizer has no mask token.", "Use a model trained for masked language modelling.")
        options = super().options(given)
        if given.get("targets") is None:
            return options
        return dataclasses.replace(options, target_ids=self._target_ids(given["targets"]))

    def preprocess(self, inputs: Sequence[Any], options: FillMaskOptions) -> list[Prepared]:
        """Tokenize texts and find their masks."""
        rows = self.encoder.rows([require_text(item) for item in inputs], options)
        return [Prepared([row], self._masks(row)) for row in rows]

    def forward(self, rows: Sequence[Row], options: FillMaskOptions) -> Sequence[Any]:
        """The best tokens of each row's masks; logits are computed at the masks alone."""
        masks = [self._masks(row) for row in rows]
        hidden: Tensor = self.bare_model.base_model(**self.encoder.collate(rows, self.device))[0]
        row_index = [index for index, places in enumerate(masks) for _ in places]
        places = [place for row in masks for place in row]
        logits: Tensor = self.bare_model.head(hidden[row_index, places])
        scores = logits.float().softmax(-1)
        ids = options.target_ids
        if ids is not None:
            scores = scores[:, torch.tensor(ids, device=scores.device)]
        values, best = scores.topk(min(options.top_k or 5, scores.shape[-1]))
        tokens = [[ids[i] for i in row] for row in best.tolist()] if ids is not None else best.tolist()
        found = iter(zip(values.tolist(), tokens, strict=True))
        return [[next(found) for _ in row] for row in masks]

    def postprocess(self, prepared: Prepared, outputs: Sequence[Any], options: FillMaskOptions) -> Any:
        """The words and the filled texts."""
        ids = prepared.rows[0].ids
        alone = len(prepared.source) == 1
        answers = [
            [self._answer_for(ids, place, token, score, alone) for score, token in zip(scores, tokens, strict=True)]
            for place, (scores, tokens) in zip(prepared.source, outputs[0], strict=True)
        ]
        return answers[0] if alone else answers

    def _answer_for(self, ids: list[int], place: int, token: int, score: float, alone: bool) -> dict[str, Any]:
        filled = [*ids[:place], token, *ids[place + 1 :]]
        shown = [index for index in filled if index != self.tokenizer.pad_token_id]
        return {
            "score": score,
            "token": token,
            "token_str": self.tokenizer.decode([token]),
            # Other masks are special tokens too, and must stay to be seen.
            "sequence": self.tokenizer.decode(shown, skip_special_tokens=alone),
        }

    def _masks(self, row: Row) -> list[int]:
        mask = self.tokenizer.mask_token_id
        places = [place for place, index in enumerate(row.ids) if index == mask]
        if not places:
            raise InputError(
                f"An input has no mask among its {len(row)} tokens.",
                f"Put {self.tokenizer.mask_token} where a word is to be found, near enough to the start to be seen.",
            )
        return places

    def _target_ids(self, targets: str | Sequence[str]) -> tuple[int, ...]:
        vocabulary = self.tokenizer.get_vocab()
        ids: dict[int, None] = {}
        for target in [targets] if isinstance(targets, str) else targets:
            index = vocabulary.get(target)
            if index is None:
                pieces = self.tokenizer(target, add_special_tokens=False)["input_ids"]
                index = pieces[0] if pieces else None
                used = "it is left out" if index is None else f"{self.tokenizer.convert_ids_to_tokens(index)!r} is used"
                warn(f"The target {target!r} is not in the vocabulary: {used}.")
            if index is not None:
                ids[index] = None
        if not ids:
            raise InputError("There is no target to choose from.", "Give at least one word that the tokenizer knows.")
        return tuple(ids)
