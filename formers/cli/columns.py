"""Which task a table is for, and which of its columns are texts and labels: told from names and kinds of columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from typing import Literal

from formers.errors import InputError

Kind = Literal["text", "integer", "number", "boolean", "texts", "integers", "numbers", "other"]

CLASSIFICATION, MULTI_LABEL, REGRESSION = "text-classification", "multi-label-classification", "regression"
TOKENS, MASKED, CAUSAL = "token-classification", "fill-mask", "text-generation"
SUMMARIZATION, TRANSLATION, TEXT2TEXT = "summarization", "translation", "text2text-generation"
# Texts from texts, by encoder–decoders.
WRITTEN = (SUMMARIZATION, TRANSLATION, TEXT2TEXT)
TRAINABLE = (CLASSIFICATION, MULTI_LABEL, REGRESSION, TOKENS, MASKED, CAUSAL, *WRITTEN)
ALIASES = {
    "sentiment-analysis": CLASSIFICATION,
    "multi-label": MULTI_LABEL,
    "text-regression": REGRESSION,
    "ner": TOKENS,
    "masked-lm": MASKED,
    "mlm": MASKED,
    "causal-lm": CAUSAL,
    "clm": CAUSAL,
    "seq2seq": TEXT2TEXT,
}

# Names that say it, the surest first; compared in lower case without signs.
_LABELS = [
    "label",
    "labels",
    "target",
    "class",
    "category",
    "sentiment",
    "score",
    "similarity",
    "similarityscore",
    "rating",
    "stars",
    "topic",
    "intent",
    "emotion",
    "gold",
    "goldlabel",
    "classindex",
    "labelid",
    "y",
]
_TAGS = ["nertags", "tags", "labels", "label", "postags", "chunktags", "ner", "pos"]
_WORDS = ["tokens", "words"]
_TEXTS = [
    "text",
    "sentence",
    "review",
    "reviewtext",
    "content",
    "document",
    "comment",
    "commenttext",
    "tweet",
    "post",
    "message",
    "utterance",
    "body",
    "article",
    "description",
    "headline",
    "question",
    "query",
    "prompt",
    "title",
    "abstract",
]
_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text", "textpair"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
)
# Columns of what is read and of what is written, by task; the first that are there.
_READ = {
    SUMMARIZATION: ["article", "document", "dialogue", "text", "content", "body", "report", "source", "input"],
    TRANSLATION: ["source", "src", "sourcetext", "input", "text"],
    TEXT2TEXT: ["input", "source", "src", "inputtext", "inputs", "question", "prompt", "instruction", "text"],
}
_WRITE = {
    SUMMARIZATION: ["summary", "highlights", "abstract", "headline", "title", "tldr", "target", "output"],
    TRANSLATION: ["target", "tgt", "targettext", "translation", "output"],
    TEXT2TEXT: ["output", "target", "tgt", "targettext", "outputs", "targets", "answer", "completion", "response"],
}
_LETTERED = re.compile(r"(?<=[ _.-])[aA]$")
_COUNTERS = re.compile(r"(.*[ _.-])?(id|idx|index|guid|uuid|key|url|date|time|timestamp|split|fold)", re.I)

# Whole numbers are classes where each comes this often or more; with fewer examples a class they are measured values.
_EXAMPLES_A_CLASS = 5
_FEW_CLASSES = 20


@dataclass(frozen=True)
class Column:
    """What is known of a column.

    `distinct` counts different values, of items in lists; `length` is the mean number of characters or items; `whole`
    tells whether all numbers are whole, `flags` whether all are 0 or 1, `even` whether all lists are equally long;
    `names` are class names that the dataset itself declares.
    """

    name: str
    kind: Kind
    rows: int
    distinct: int = 0
    length: float = 0.0
    whole: bool = True
    flags: bool = False
    even: bool = False
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Wish:
    """What the user said of it; the rest is detected. `language_task`: what texts without labels are for."""

    task: str | None = None
    text: str | None = None
    pair: str | None = None
    labels: tuple[str, ...] | None = None
    language_task: str = MASKED


@dataclass(frozen=True)
class Plan:
    """A task, and the columns that it is done with.

    `text` holds the texts, or lists of words; several `labels` are one column of 0 or 1 for each label. `unused` names
    the columns that play no part.
    """

    task: str
    text: str
    pair: str | None
    labels: tuple[str, ...]
    unused: tuple[str, ...] = ()


def task_named(name: str) -> str:
    """The task that a name or another spelling of it means; InputError listing near names for others."""
    wanted = name.lower().replace("_", "-")
    task = ALIASES.get(wanted, wanted)
    if task not in TRAINABLE:
        near = get_close_matches(wanted, [*TRAINABLE, *ALIASES], n=3, cutoff=0.5) or TRAINABLE
        raise InputError(f"There is no task {name!r} to train.", f"Use one of: {', '.join(near)}.")
    return task


def detect(columns: Sequence[Column], wish: Wish | None = None) -> Plan:
    """The plan for a table with these columns; InputError, naming what to say, where they do not tell."""
    wish = wish or Wish()
    by_name = {column.name: column for column in columns}
    for option, named in (
        ("--text-column", (wish.text,)),
        ("--pair-column", (wish.pair,)),
        ("--label-column", wish.labels or ()),
    ):
        for name in named:
            if name is not None and name not in by_name:
                raise _absent(name, option, by_name)
    task = None if wish.task is None else task_named(wish.task)
    if task in (None, TOKENS):
        plan = _token_plan(by_name, wish)
        if plan is not None:
            return _noting_unused(plan, by_name)
        if task == TOKENS:
            raise InputError(
                f"{TOKENS} needs a column of lists of words and one of lists of their labels; {_all(by_name)}.",
                "Name them with --text-column and --label-column; JSONL and Parquet hold lists.",
            )
    if task in WRITTEN:
        return _noting_unused(_written_plan(by_name, wish, task), by_name)
    labels = () if task in (MASKED, CAUSAL) else _label_columns(by_name, wish, task)
    if task is None and not labels and wish.language_task in WRITTEN:
        return _noting_unused(_written_plan(by_name, wish, wish.language_task), by_name)
    text, pair = _text_columns(by_name, wish, labels)
    if labels:
        task = task or kind_of_labels([by_name[name] for name in labels])
        _check_labels(task, [by_name[name] for name in labels])
    elif task is None:
        task = wish.language_task
    elif task not in (MASKED, CAUSAL):
        raise InputError(f"No column holds labels for {task}; {_all(by_name)}.", "Name it with --label-column.")
    if task in (MASKED, CAUSAL):
        if wish.labels or wish.pair:
            said = "--label-column" if wish.labels else "--pair-column"
            raise InputError(f"{task} learns from texts alone, and {said} was given.", f"Leave {said} or --task out.")
        pair, labels = None, ()
    return _noting_unused(Plan(task, text, pair, labels), by_name)


def kind_of_labels(labels: Sequence[Column]) -> str:
    """The task that columns of labels of whole texts are for."""
    one = labels[0]
    if len(labels) > 1 or one.kind in ("texts", "integers", "numbers"):
        return MULTI_LABEL
    if one.names is not None or one.kind in ("text", "boolean"):
        return CLASSIFICATION
    if not one.whole:
        return REGRESSION
    few = one.distinct <= _FEW_CLASSES or one.distinct * _EXAMPLES_A_CLASS <= one.rows
    return CLASSIFICATION if few else REGRESSION


def _token_plan(columns: dict[str, Column], wish: Wish) -> Plan | None:
    """Lists of words with lists of labels, if that is what the columns are."""
    lists = [c for c in columns.values() if c.kind in ("texts", "integers")]
    words = columns[wish.text] if wish.text else _first(_WORDS, [c for c in lists if c.kind == "texts"])
    if words is None or words.kind != "texts" or wish.pair is not None or len(wish.labels or ()) > 1:
        return None
    others = [c for c in lists if c is not words]
    tags = columns[wish.labels[0]] if wish.labels else _first(_TAGS, others)
    if tags is None and len(others) == 1 and wish.task is not None:
        tags = others[0]
    if tags is None or tags is words or tags.kind not in ("texts", "integers"):
        return None
    return Plan(TOKENS, words.name, None, (tags.name,))


def _written_plan(columns: dict[str, Column], wish: Wish, task: str) -> Plan:
    """Texts to read and texts to write: by their names, or the first and the second of two columns."""
    if wish.pair is not None or len(wish.labels or ()) > 1:
        said = "--pair-column" if wish.pair is not None else "--label-column of several names"
        raise InputError(f"{task} reads one text and writes one, and {said} was given.", "Leave it out.")
    texts = [c for c in columns.values() if c.kind == "text"]
    read = None if wish.text is None else columns[wish.text]
    write = columns[wish.labels[0]] if wish.labels else _first(_WRITE[task], [c for c in texts if c is not read])
    read = read or _first(_READ[task], [c for c in texts if c is not write])
    if len(texts) == 2:
        read = read or next(c for c in texts if c is not write)
        write = write or next(c for c in texts if c is not read)
    source = _told(read, "read", "--text-column", columns)
    return Plan(task, source, None, (_told(write, "written", "--label-column", columns),))


def _told(column: Column | None, role: str, option: str, columns: dict[str, Column]) -> str:
    """The name of a column that was found and holds texts."""
    if column is None:
        raise InputError(
            f"Which texts are to be {role} is not clear; {_all(columns)}.", f"Name their column with {option}."
        )
    if column.kind != "text":
        raise InputError(
            f"The column {column.name!r} holds {_words(column.kind)}, not texts.",
            f"Name a column of texts with {option}.",
        )
    return column.name


def _label_columns(columns: dict[str, Column], wish: Wish, task: str | None) -> tuple[str, ...]:
    """The columns of labels, none if there are none."""
    if wish.labels:
        return wish.labels
    taken = {wish.text, wish.pair}
    free = [c for c in columns.values() if c.name not in taken and c.kind != "other"]
    declared = [c for c in free if c.names is not None]
    usual = _first(_LABELS, free)
    # A column named "label" that holds a text of its own in each row is none, whatever its name.
    if usual is not None and (usual.kind != "text" or task is not None or _repeats(usual)):
        return (usual.name,)
    if len(declared) == 1:
        return (declared[0].name,)
    values = [c for c in free if c.kind in ("integer", "number", "boolean") and not _COUNTERS.fullmatch(c.name)]
    flags = [c for c in values if c.flags or c.kind == "boolean"]
    if task in (None, MULTI_LABEL) and len(flags) > 1 and len(flags) == len(values):
        return tuple(c.name for c in flags)
    if len(values) == 1:
        return (values[0].name,)
    if len(values) > 1:
        raise InputError(
            f"Several columns may hold the labels: {', '.join(c.name for c in values)}.", "Name it with --label-column."
        )
    texts = [c for c in free if c.kind == "text"]
    classes = [c for c in texts if _repeats(c) and not _COUNTERS.fullmatch(c.name)]
    if len(texts) > 1 and len(classes) == 1:
        return (classes[0].name,)
    lists = [c for c in free if c.kind in ("texts", "integers", "numbers")]
    return (lists[0].name,) if len(lists) == 1 and texts else ()


def _text_columns(columns: dict[str, Column], wish: Wish, labels: Sequence[str]) -> tuple[str, str | None]:
    """The column of texts, and that of their second parts if there is one."""
    for name in (wish.text, wish.pair):
        if name is not None and columns[name].kind != "text":
            raise InputError(
                f"The column {name!r} holds {_words(columns[name].kind)}, not texts.",
                "Name a column of texts with --text-column.",
            )
    texts = [c for c in columns.values() if c.kind == "text" and c.name not in labels]
    if not texts:
        raise InputError(f"No column holds texts; {_all(columns)}.", "Name it with --text-column.")
    if wish.text is not None:
        return wish.text, wish.pair
    texts = [c for c in texts if c.name != wish.pair]
    pair = None if wish.pair is not None else _pair(texts)
    if pair is not None and wish.task not in (MASKED, CAUSAL) and labels:
        return pair
    found = _first(_TEXTS, texts) or max(
        texts, key=lambda column: (not _COUNTERS.fullmatch(column.name), column.length), default=None
    )
    if found is None:
        raise InputError("No column is left for the first texts.", "Name it with --text-column.")
    return found.name, wish.pair


def _pair(texts: Sequence[Column]) -> tuple[str, str] | None:
    """Two columns whose names belong together."""
    plain = {_plain(column.name): column.name for column in texts}
    for one, other in _PAIRS:
        if one in plain and other in plain:
            return plain[one], plain[other]
    for first, second in combinations(texts, 2):
        numbered = first.name.replace("1", "2")
        lettered = _LETTERED.sub(lambda match: chr(ord(match[0]) + 1), first.name)
        if first.name != second.name and second.name in (numbered, lettered):
            return first.name, second.name
    return None


def _check_labels(task: str, labels: Sequence[Column]) -> None:
    kinds = {column.kind for column in labels}
    names = ", ".join(column.name for column in labels)
    if task == MULTI_LABEL:
        fits = len(labels) == 1 and kinds <= {"texts", "integers", "numbers"}
        fits = fits or (len(labels) > 1 and all(c.flags or c.kind == "boolean" for c in labels))
        if not fits:
            raise InputError(
                f"{task} needs lists of labels, or several columns of 0 or 1; {names} holds {_words(*kinds)}.",
                "Name other columns with --label-column A,B,C, or another --task.",
            )
    elif len(labels) > 1:
        raise InputError(f"{task} has one column of labels; {names} were given.", f"Use --task {MULTI_LABEL}.")
    elif task == REGRESSION and not kinds <= {"integer", "number"}:
        raise InputError(f"{task} needs numbers; {names} holds {_words(*kinds)}.", "Name another --label-column.")
    elif task == CLASSIFICATION and (not kinds <= {"text", "integer", "boolean", "number"} or not labels[0].whole):
        what = "numbers that are not whole" if kinds == {"number"} else _words(*kinds)
        raise InputError(
            f"{task} needs one class an example; {names} holds {what}.", f"Use --task {REGRESSION} or {MULTI_LABEL}."
        )


def _repeats(column: Column) -> bool:
    """Whether the values of a column come again and again, as names of classes do."""
    return 1 < column.distinct <= max(2, column.rows // 2) and (
        column.distinct <= _FEW_CLASSES or column.distinct * _EXAMPLES_A_CLASS <= column.rows
    )


def _first(names: Sequence[str], columns: Sequence[Column]) -> Column | None:
    """The column with the first of `names`."""
    plain = {_plain(column.name): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _noting_unused(plan: Plan, columns: dict[str, Column]) -> Plan:
    used = {plan.text, plan.pair, *plan.labels}
    return Plan(plan.task, plan.text, plan.pair, plan.labels, tuple(name for name in columns if name not in used))


def _absent(name: str, option: str, columns: dict[str, Column]) -> InputError:
    near = get_close_matches(name, columns, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"{option}: there is no column {name!r}; {_all(columns)}.{hint}", "Name one of the columns.")


def _all(columns: dict[str, Column]) -> str:
    found = ", ".join(f"{c.name} ({_words(c.kind)})" for c in columns.values())
    return f"the columns are {found}" if found else "there are no columns"


def _words(*kinds: str) -> str:
    words = {
        "text": "texts",
        "integer": "whole numbers",
        "number": "numbers",
        "boolean": "true or false",
        "texts": "lists of texts",
        "integers": "lists of whole numbers",
        "numbers": "lists of numbers",
        "other": "something else",
    }
    return " and ".join(words[kind] for kind in sorted(kinds))
