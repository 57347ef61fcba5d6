"""Which task a table is for, told from its columns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formers.cli.columns import (
    CAUSAL,
    CLASSIFICATION,
    MASKED,
    MULTI_LABEL,
    REGRESSION,
    TOKENS,
    TRAINABLE,
    Column,
    Plan,
    Wish,
    detect,
    task_named,
)
from formers.errors import InputError


def text(name: str, length: float = 50, distinct: int = 1000) -> Column:
    return Column(name, "text", 1000, distinct, length)


def integer(name: str, distinct: int = 2, flags: bool = False, **more: Any) -> Column:
    return Column(name, "integer", 1000, distinct, flags=flags, **more)


def number(name: str, distinct: int = 900) -> Column:
    return Column(name, "number", 1000, distinct, whole=False)


def many(name: str, kind: Any, distinct: int = 9, **more: Any) -> Column:
    return Column(name, kind, 1000, distinct, 12, **more)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        # SST-2, MRPC as GLUE and as Microsoft wrote it, QNLI, STS-B, AG News, IMDB
        ([text("sentence"), integer("label"), integer("idx", 1000)], (CLASSIFICATION, "sentence", None, ("label",))),
        (
            [text("sentence1"), text("sentence2"), integer("label")],
            (CLASSIFICATION, "sentence1", "sentence2", ("label",)),
        ),
        (
            [integer("Quality"), integer("#1 ID", 1000), integer("#2 ID", 900), text("#1 String"), text("#2 String")],
            (CLASSIFICATION, "#1 String", "#2 String", ("Quality",)),
        ),
        (
            [text("question"), text("sentence"), text("label", 8, 2)],
            (CLASSIFICATION, "question", "sentence", ("label",)),
        ),
        ([text("sentence1"), text("sentence2"), number("score")], (REGRESSION, "sentence1", "sentence2", ("score",))),
        (
            [text("Title", 40), text("Description", 200), integer("Class Index", 4)],
            (CLASSIFICATION, "Description", None, ("Class Index",)),
        ),
        ([text("review"), text("sentiment", 8, 2)], (CLASSIFICATION, "review", None, ("sentiment",))),
        # Declared classes win over names; a column of classes is found without a usual name.
        ([text("text"), integer("coarse", 6, names=("A", "B"))], (CLASSIFICATION, "text", None, ("coarse",))),
        ([text("utterance"), text("domain", 9, 12)], (CLASSIFICATION, "utterance", None, ("domain",))),
        ([text("tweet"), Column("offensive", "boolean", 1000, 2)], (CLASSIFICATION, "tweet", None, ("offensive",))),
        (
            [text("premise"), text("hypothesis"), integer("label", 3)],
            (CLASSIFICATION, "premise", "hypothesis", ("label",)),
        ),
        ([text("text_a"), text("text_b"), integer("label")], (CLASSIFICATION, "text_a", "text_b", ("label",))),
        # Many whole numbers are classes where each comes often, and measured where not.
        ([text("text"), integer("label", 150)], (CLASSIFICATION, "text", None, ("label",))),
        ([text("text"), integer("label", 700)], (REGRESSION, "text", None, ("label",))),
        # Several labels
        ([text("text"), many("labels", "texts")], (MULTI_LABEL, "text", None, ("labels",))),
        ([text("text"), many("labels", "integers", flags=True, even=True)], (MULTI_LABEL, "text", None, ("labels",))),
        (
            [text("id", 16), text("comment_text"), *(integer(n, 2, True) for n in ("toxic", "threat", "insult"))],
            (MULTI_LABEL, "comment_text", None, ("toxic", "threat", "insult")),
        ),
        # Words
        ([many("tokens", "texts", 900), many("ner_tags", "integers")], (TOKENS, "tokens", None, ("ner_tags",))),
        (
            [text("id"), many("tokens", "texts", 900), many("pos_tags", "integers"), many("ner_tags", "integers")],
            (TOKENS, "tokens", None, ("ner_tags",)),
        ),
        ([many("words", "texts", 900), many("labels", "texts")], (TOKENS, "words", None, ("labels",))),
        # Texts alone
        ([text("text")], (MASKED, "text", None, ())),
        ([text("url", 90), text("body")], (MASKED, "body", None, ())),
        ([text("anything", 20), text("story", 900)], (MASKED, "story", None, ())),
    ],
)
def test_known_tables(columns: list[Column], expected: tuple[Any, ...]) -> None:
    found = detect(columns)
    assert (found.task, found.text, found.pair, found.labels) == expected
    used = {found.text, found.pair, *found.labels}
    assert found.unused == tuple(column.name for column in columns if column.name not in used)


MRPC = [text("sentence1"), text("sentence2"), integer("label"), integer("idx", 1000), number("weight")]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(text="sentence2"), (CLASSIFICATION, "sentence2", None, ("label",))),
        (Wish(text="sentence2", pair="sentence1"), (CLASSIFICATION, "sentence2", "sentence1", ("label",))),
        (Wish(pair="sentence1"), (CLASSIFICATION, "sentence2", "sentence1", ("label",))),
        (Wish(labels=("weight",)), (REGRESSION, "sentence1", "sentence2", ("weight",))),
        (Wish(task="regression"), (REGRESSION, "sentence1", "sentence2", ("label",))),
        (Wish(task="mlm", text="sentence1"), (MASKED, "sentence1", None, ())),
        (Wish(task="text-generation", text="sentence1"), (CAUSAL, "sentence1", None, ())),
    ],
)
def test_wishes(wish: Wish, expected: tuple[Any, ...]) -> None:
    found = detect(MRPC, wish)
    assert (found.task, found.text, found.pair, found.labels) == expected


def test_what_texts_alone_are_for_depends_on_the_model() -> None:
    assert detect([text("text")], Wish(language_task=CAUSAL)).task == CAUSAL


@pytest.mark.parametrize(
    ("columns", "wish", "message"),
    [
        (MRPC, Wish(text="sentense1"), "--text-column: there is no column 'sentense1'; .* Did you mean 'sentence1'?"),
        (MRPC, Wish(labels=("lable",)), "--label-column: there is no column 'lable'"),
        (MRPC, Wish(text="label"), "The column 'label' holds whole numbers, not texts"),
        (MRPC, Wish(task="ner"), "token-classification needs a column of lists of words"),
        (MRPC, Wish(task="multi-label", labels=("label",)), "needs lists of labels, or several columns of 0 or 1"),
        (MRPC, Wish(task="text-classification", labels=("weight",)), "holds numbers that are not whole"),
        (MRPC, Wish(task="regression", labels=("sentence2",)), "regression needs numbers; sentence2 holds texts"),
        (MRPC, Wish(task="mlm", labels=("label",)), "fill-mask learns from texts alone, and --label-column was given"),
        ([integer("label")], Wish(), "No column holds texts; the columns are label"),
        ([], Wish(), "there are no columns"),
        ([text("text")], Wish(task="text-classification"), "No column holds labels for text-classification"),
        ([text("text"), integer("a", 3), integer("b", 4)], Wish(), "Several columns may hold the labels: a, b"),
        (MRPC, Wish(task="classify"), "There is no task 'classify' to train"),
    ],
)
def test_what_cannot_be_told_is_asked_for(columns: list[Column], wish: Wish, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detect(columns, wish)


def test_names_of_tasks() -> None:
    assert task_named("NER") == TOKENS
    assert task_named("fill_mask") == MASKED
    with pytest.raises(InputError, match="Use one of: text-classification"):
        task_named("text-clasification")


NAMES = st.one_of(
    st.sampled_from(["label", "text", "text1", "text2", "id", "tokens", "ner_tags", "sentence", "score"]),
    st.text(min_size=1, max_size=8),
)
COLUMNS = st.builds(
    Column,
    name=NAMES,
    kind=st.sampled_from(["text", "integer", "number", "boolean", "texts", "integers", "numbers", "other"]),
    rows=st.just(100),
    distinct=st.integers(0, 100),
    length=st.floats(0, 1000),
    whole=st.booleans(),
    flags=st.booleans(),
    even=st.booleans(),
    names=st.sampled_from([None, ("A", "B")]),
)
TABLES = st.lists(COLUMNS, max_size=6, unique_by=lambda column: column.name)


@given(TABLES, st.sampled_from([None, *TRAINABLE]))
def test_any_table_has_a_plan_or_a_reason(columns: list[Column], task: str | None) -> None:
    kinds = {column.name: column.kind for column in columns}
    try:
        found = detect(columns, Wish(task))
    except InputError:
        return
    assert isinstance(found, Plan)
    assert task in (None, found.task)
    parts = [found.text, *([found.pair] if found.pair is not None else []), *found.labels]
    assert len(set(parts)) == len(parts)
    assert sorted([*parts, *found.unused]) == sorted(kinds)
    assert kinds[found.text] == ("texts" if found.task == TOKENS else "text")
    assert bool(found.labels) == (found.task not in (MASKED, CAUSAL))
    if found.task == REGRESSION:
        assert kinds[found.labels[0]] in ("integer", "number")


@given(TABLES)
def test_what_was_found_can_be_said(columns: list[Column]) -> None:
    """The plan, given back as wishes, is found again: so run.yaml repeats a run."""
    try:
        found = detect(columns)
    except InputError:
        return
    again = detect(columns, Wish(found.task, found.text, found.pair, found.labels or None))
    assert again == found
