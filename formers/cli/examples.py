"""From tables to what a model is trained on: classes, tokens, batches and metrics of each task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formers.cli.columns import (
    CAUSAL,
    CLASSIFICATION,
    MASKED,
    MULTI_LABEL,
    REGRESSION,
    SUMMARIZATION,
    TEXT2TEXT,
    TOKENS,
    TRANSLATION,
    WRITTEN,
    Plan,
)
from formers.errors import InputError

if TYPE_CHECKING:
    import datasets

    from formers.training.metrics import Metrics

IGNORED = -100
_LONGEST = 512


@dataclass(frozen=True)
class Recipe:
    """What a task needs: the class that loads its model, its pipeline, and the metric that tells the best model."""

    auto: str
    pipeline: str
    best: str
    problem: str | None = None
    # Whether the model writes texts, by which it is judged.
    writes: bool = False


RECIPES = {
    CLASSIFICATION: Recipe(
        "AutoModelForSequenceClassification", "text-classification", "accuracy", "single_label_classification"
    ),
    MULTI_LABEL: Recipe(
        "AutoModelForSequenceClassification", "text-classification", "f1_micro", "multi_label_classification"
    ),
    REGRESSION: Recipe("AutoModelForSequenceClassification", "text-classification", "loss", "regression"),
    TOKENS: Recipe("AutoModelForTokenClassification", "token-classification", "f1"),
    MASKED: Recipe("AutoModelForMaskedLM", "fill-mask", "loss"),
    CAUSAL: Recipe("AutoModelForCausalLM", "text-generation", "loss"),
    SUMMARIZATION: Recipe("AutoModelForSeq2SeqLM", SUMMARIZATION, "rougeLsum", writes=True),
    TRANSLATION: Recipe("AutoModelForSeq2SeqLM", TRANSLATION, "bleu", writes=True),
    TEXT2TEXT: Recipe("AutoModelForSeq2SeqLM", TEXT2TEXT, "rougeL", writes=True),
}


@dataclass(frozen=True)
class Examples:
    """How rows of a table become examples.

    `names`: the classes as the data name them, in the order of their numbers; none for regression and language
    modeling. `named`: as the model names them. `declared`: the names of the numbers in the data, where the dataset has
    them. `flags`: labels are lists of 0 or 1, one for each class. `cache`: a folder for what is too large for memory.
    `target_length`: tokens of a text that is to be written, at most; `prefix` stands before each text that is read.
    """

    plan: Plan
    names: tuple[str, ...]
    tokenizer: Any
    max_length: int
    declared: tuple[str, ...] | None = None
    flags: bool = False
    line_by_line: bool = False
    named: tuple[str, ...] = ()
    cache: Path | None = None
    target_length: int = 128
    prefix: str = ""

    def of(self, table: datasets.Dataset, split: str) -> datasets.Dataset:
        """The examples of a split: token ids, and labels where the task has them."""
        check_present(table, [self.plan.text, self.plan.pair, *self.plan.labels], split)
        makers = {TOKENS: self._words, MASKED: self._blocks, CAUSAL: self._blocks}
        make = self._written if self.plan.task in WRITTEN else makers.get(self.plan.task, self._texts)
        kept = [name for name in (self.plan.text, self.plan.pair, *self.plan.labels) if name is not None]
        file = None if self.cache is None else str(self.cache / f"{split}.arrow")
        made: datasets.Dataset = table.select_columns(kept).map(
            make, batched=True, remove_columns=kept, cache_file_name=file, load_from_cache_file=False
        )
        return made

    def _texts(self, rows: Mapping[str, list[Any]]) -> dict[str, Any]:
        pair = [] if self.plan.pair is None else [rows[self.plan.pair]]
        encoded = self.tokenizer(rows[self.plan.text], *pair, truncation=True, max_length=self.max_length)
        return {**encoded, "labels": self._labels(rows)}

    def _written(self, rows: Mapping[str, list[Any]]) -> dict[str, Any]:
        """The ids of what is read, and as labels those of what is to be written."""
        texts = [self.prefix + text for text in rows[self.plan.text]]
        encoded = self.tokenizer(texts, truncation=True, max_length=self.max_length)
        wanted = rows[self.plan.labels[0]]
        labels = self.tokenizer(text_target=wanted, truncation=True, max_length=self.target_length)["input_ids"]
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}

    def _labels(self, rows: Mapping[str, list[Any]]) -> list[Any]:
        columns, task = self.plan.labels, self.plan.task
        if task == REGRESSION:
            return [float(value) for value in rows[columns[0]]]
        if task == CLASSIFICATION:
            return [self._number(value, columns[0]) for value in rows[columns[0]]]
        if len(columns) > 1:
            return [[float(value) for value in row] for row in zip(*(rows[name] for name in columns), strict=True)]
        if self.flags:
            return [[float(value) for value in row] for row in rows[columns[0]]]
        made = []
        for row in rows[columns[0]]:
            there = {self._number(value, columns[0]) for value in row}
            made.append([float(number in there) for number in range(len(self.names))])
        return made

    def _words(self, rows: Mapping[str, list[Any]]) -> dict[str, Any]:
        """The first token of each word has its label."""
        (column,) = self.plan.labels
        encoded = self.tokenizer(
            rows[self.plan.text], is_split_into_words=True, truncation=True, max_length=self.max_length
        )
        labels = []
        for number, (words, tags) in enumerate(zip(rows[self.plan.text], rows[column], strict=True)):
            if len(words) != len(tags):
                raise InputError(
                    f"{len(words)} words with {len(tags)} labels: {' '.join(words)[:60]!r}.",
                    f"Give each word of {self.plan.text!r} one label in {column!r}.",
                )
            places = encoded.word_ids(number)
            first = [p is not None and p != before for p, before in zip(places, [None, *places], strict=False)]
            labels.append([self._number(tags[p], column) if f else IGNORED for p, f in zip(places, first, strict=True)])
        return {**encoded, "labels": labels}

    def _blocks(self, rows: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Texts end to end, cut into blocks; line by line, each text by itself, cut where it is too long."""
        texts = [text for text in rows[self.plan.text] if text.strip()]
        if self.line_by_line:
            parts = self.tokenizer(texts, truncation=True, max_length=self.max_length, return_overflowing_tokens=True)
            return {"input_ids": parts["input_ids"]}
        ids: list[int] = []
        for text in self.tokenizer(texts, verbose=False)["input_ids"]:
            ids += text
            # Tokenizers that mark no ends, such as GPT-2's, have a token for them all the same.
            end = self.tokenizer.eos_token_id
            if end is not None and text and text[-1] not in self.tokenizer.all_special_ids:
                ids.append(end)
        blocks = [ids[start : start + self.max_length] for start in range(0, len(ids), self.max_length)]
        if len(blocks) > 1 and len(blocks[-1]) < self.max_length and self.tokenizer.pad_token is None:
            del blocks[-1]
        return {"input_ids": blocks}

    def _number(self, value: Any, column: str) -> int:
        name = name_of(value, self.declared)
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(
                f"The column {column!r} holds {name!r}, which is none of the labels {', '.join(self.names[:10])}.",
                "Correct the data, or name all labels with --label-names.",
            ) from None

    def collator(self, mlm_probability: float, seed: int) -> Any:
        """What makes batches of examples."""
        from formers.training import collators

        if self.plan.task in (MASKED, CAUSAL):
            return collators.DataCollatorForLanguageModeling(
                self.tokenizer, mlm=self.plan.task == MASKED, mlm_probability=mlm_probability, seed=seed
            )
        if self.plan.task == TOKENS:
            return collators.DataCollatorForTokenClassification(self.tokenizer)
        if self.plan.task in WRITTEN:
            return collators.DataCollatorForSeq2Seq(self.tokenizer)
        return collators.DataCollatorWithPadding(self.tokenizer)

    def metrics(self) -> Metrics:
        """What tells how good the model is."""
        from formers.training import metrics, text_metrics

        task, names = self.plan.task, self.names
        if task == CLASSIFICATION:
            return metrics.Metrics(metrics.Classification(len(names)))
        if task == MULTI_LABEL:
            return metrics.Metrics(metrics.MultiLabel(len(names)))
        if task == REGRESSION:
            return metrics.Metrics(metrics.Regression(), metrics.Spearman())
        if task == TOKENS:
            tags = self.named or names
            whole = metrics.is_tagging(tags)
            return metrics.Metrics(metrics.Entities(tags) if whole else metrics.Classification(len(names), "macro"))
        if task in WRITTEN:
            counters: dict[str, list[Any]] = {
                SUMMARIZATION: [text_metrics.Rouge()],
                TRANSLATION: [text_metrics.Bleu()],
                TEXT2TEXT: [text_metrics.ExactMatch(), text_metrics.Rouge(), text_metrics.Bleu()],
            }
            return metrics.Metrics(text_metrics.Texts(self.tokenizer, *counters[task]))
        return metrics.Metrics(metrics.Perplexity(shift=task == CAUSAL))


def name_of(value: Any, declared: Sequence[str] | None = None) -> str:
    """A label as a name: the one that the dataset declares for a number, or the number itself."""
    if declared is not None and isinstance(value, int):
        return declared[value] if 0 <= value < len(declared) else str(value)
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def class_names(plan: Plan, tables: Mapping[str, datasets.Dataset], flags: bool) -> tuple[str, ...]:
    """The classes of all splits: as the dataset declares them, or those that occur, in order.

    `flags`: the labels are lists of 0 or 1, one for each class; the classes are LABEL_0, LABEL_1, …
    """
    if plan.task not in (CLASSIFICATION, MULTI_LABEL, TOKENS):
        return ()
    if len(plan.labels) > 1:
        return plan.labels
    (column,) = plan.labels
    declared = declared_names(next(iter(tables.values())), column)
    if declared is not None:
        return declared
    if flags:
        return tuple(f"LABEL_{number}" for number in range(len(next(iter(tables.values()))[0][column])))
    values = {value for table in tables.values() if column in table.column_names for value in distinct(table, column)}
    numbers = all(isinstance(value, int | float) for value in values)
    ordered = sorted(values) if numbers else sorted(map(name_of, values))
    names = tuple(dict.fromkeys(map(name_of, ordered)))
    # O is first among the labels of words, as it is in most corpora.
    names = tuple(sorted(names, key=lambda name: name != "O")) if plan.task == TOKENS else names
    if len(names) < 2:
        raise InputError(
            f"The column {column!r} holds {'one label only: ' + names[0] if names else 'no labels'}.",
            "Name another one with --label-column.",
        )
    return names


def distinct(table: datasets.Dataset, column: str) -> Iterable[Any]:
    """The different values of a column, of the items if it holds lists."""
    import pyarrow.compute as pc

    values = table.with_format("arrow")[:][column] if table._indices is not None else table.data.column(column)
    while hasattr(values.type, "value_type") and not str(values.type).startswith("dictionary"):
        values = pc.list_flatten(values)
    found: list[Any] = pc.unique(values.drop_null()).to_pylist()
    return found


def declared_names(table: datasets.Dataset, column: str) -> tuple[str, ...] | None:
    """The class names that a dataset declares for a column, None if it does not."""
    feature = table.features[column]
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    return None if names is None else tuple(map(str, names))


def check_present(table: datasets.Dataset, columns: Iterable[str | None], split: str) -> None:
    """Raise for columns that a split lacks, and for cells without a value."""
    for name in columns:
        if name is None:
            continue
        if name not in table.column_names:
            raise InputError(
                f"{split} has no column {name!r}; it has {', '.join(table.column_names)}.",
                "Give all splits the same columns.",
            )
        missing = table.data.column(name).null_count
        if missing:
            raise InputError(
                f"{missing:,} of {len(table):,} rows of {split} have nothing in the column {name!r}.",
                "Fill them in, or take these rows out.",
            )


def longest_input(tokenizer: Any, config: Any) -> int:
    """The usual limit of tokens: the model's, at most 512."""
    positions = getattr(config, "max_position_embeddings", None) or _LONGEST
    return int(min(tokenizer.model_max_length, positions, _LONGEST))


def cut(data: datasets.Dataset, length: int) -> int:
    """How many examples are as long as they may be, so that they may have been cut."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(data.data.column("input_ids"))
    return int(pc.sum(pc.greater_equal(lengths, length)).as_py() or 0)


def draw(
    table: datasets.Dataset, count: int, seed: int, strata: Sequence[Any] | None = None
) -> tuple[list[int], list[int]]:
    """`count` rows drawn at random, and the others, both as sorted numbers; each class in its share where `strata`
    names the class of each row.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table))
    if strata is not None:
        # Rows of a class get evenly spaced places in a shuffled queue, so that any head of it has all classes' shares.
        _, number = np.unique(np.asarray(strata), return_inverse=True)
        place = np.empty(len(table))
        for one in range(number.max() + 1):
            rows = order[number[order] == one]
            # The only one of its class comes last: it is to be learned.
            place[rows] = (np.arange(len(rows)) + generator.random()) / len(rows) if len(rows) > 1 else 1.0
        order = np.argsort(place, kind="stable")
    return sorted(order[:count].tolist()), sorted(order[count:].tolist())
