"""From files, folders and saved datasets to splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formers.cli import examples, prepare
from formers.cli.columns import detect
from formers.cli.tables import describe, load, split_files, split_named
from formers.errors import InputError

datasets = pytest.importorskip("datasets")


def test_csv_columns_get_their_kinds(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text('text,label,score,note\n"a, b",1,0.5,\nc,0,2,x\n"",-1,,7\n', encoding="utf-8")
    table = load(str(file))["train"]
    assert table[:] == {
        "text": ["a, b", "c", ""],
        "label": [1, 0, -1],
        "score": [0.5, 2.0, None],
        "note": ["", "x", "7"],
    }
    kinds = {column.name: (column.kind, column.rows, column.whole) for column in describe(table)}
    assert kinds == {
        "text": ("text", 3, True),
        "label": ("integer", 3, True),
        "score": ("number", 2, False),
        "note": ("text", 3, True),
    }


def test_a_column_is_of_one_kind_in_all_splits(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,1\nb,0\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text("text,label\nc,none\n", encoding="utf-8")
    found = load(str(tmp_path))
    assert found["train"]["label"][:] == ["1", "0"]
    assert found["test"]["label"][:] == ["none"]


def test_quotes_in_tsv_are_signs(tmp_path: Path) -> None:
    file = tmp_path / "data.tsv"
    file.write_bytes('\ufeffQuality\t#1 String\n1\t"He said so\n0\t", he said\n'.encode())
    assert load(str(file))["train"][:] == {"Quality": [1, 0], "#1 String": ['"He said so', '", he said']}


def test_a_file_without_a_line_of_names(tmp_path: Path) -> None:
    file = tmp_path / "data.tsv"
    file.write_text("a text that is so long that it cannot be the name of a column, can it\tSports\nb\tWorld\n")
    with pytest.raises(InputError, match=r"should name the columns.* --columns text,label"):
        load(str(file))
    assert load(str(file), columns=["text", "label"])["train"]["label"][:] == ["Sports", "World"]


def test_jsonl_and_text_and_parquet(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "tags": [1, 0]}, {"tokens": ["c"], "tags": [2], "more": 1}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = load(str(tmp_path / "data.jsonl"))["train"]
    assert table["more"][:] == [None, 1]
    assert detect(describe(table)).task == "token-classification"
    (tmp_path / "data.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    assert load(str(tmp_path / "data.txt"))["train"]["text"][:] == ["one", "two"]
    names = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"]))
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, names)
    made.to_parquet(str(tmp_path / "data.parquet"))
    column = describe(load(str(tmp_path / "data.parquet"))["train"])[1]
    assert (column.name, column.names) == ("label", ("no", "yes"))


def test_folders(tmp_path: Path) -> None:
    for name in ("data/train-00001-of-00002.csv", "data/train-00000-of-00002.csv", "dev.csv", "test.csv", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text\n{name}\n", encoding="utf-8")
    found = {split: [file.name for file in files] for split, files in split_files(tmp_path).items()}
    assert found == {
        "train": ["train-00000-of-00002.csv", "train-00001-of-00002.csv"],
        "validation": ["dev.csv"],
        "test": ["test.csv"],
    }
    assert len(load(str(tmp_path))["train"]) == 2


def test_saved_datasets(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_dict({"text": list("abcd")})
    whole.select([3, 1]).save_to_disk(str(tmp_path / "one"))
    assert load(str(tmp_path / "one"))["train"]["text"][:] == ["d", "b"]
    datasets.DatasetDict(train=whole, validation_matched=whole, extra=whole).save_to_disk(str(tmp_path / "several"))
    assert set(load(str(tmp_path / "several"))) == {"train", "validation", "extra"}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("train10k", "train"),
        ("msr_paraphrase_train", "train"),
        ("Dev-00", "validation"),
        ("validation", "validation"),
        ("my.val", "validation"),
        ("test", "test"),
        ("training", "train"),
        ("trains", None),
        ("latest", None),
        ("values", None),
        ("contest", None),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_named(name) == split


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.csv", "text,label\n", "train has no rows"),
        ("data.csv", "text,label\na,b,c\n", "line 2, has more fields than the 2 columns"),
        ("data.jsonl", '{"a": 1}\n{"a": "x"}\n', "a column holds values of several kinds"),
        ("data.jsonl", "[1]\n", "line 1, is neither a JSON object nor a string"),
        ("data.parquet", "no", "is no Parquet file"),
        ("data.xls", "no", "The name 'data.xls' does not say the format. Say it with --format"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load(str(tmp_path / name))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file or folder '.*nothing\.csv'"):
        load(str(tmp_path / "nothing.csv"))
    with pytest.raises(InputError, match="has no files of splits: it holds no data"):
        load(str(tmp_path))
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text\na\n")
    with pytest.raises(InputError, match=r"it holds a\.csv, b\.csv\. Name them train, validation and test"):
        load(str(tmp_path))


def test_rows_without_a_value_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("text,label\na,1\nb,\n", encoding="utf-8")
    with pytest.raises(InputError, match="1 of 2 rows of train have nothing in the column 'label'"):
        examples.check_present(load(str(file))["train"], ["text", None, "label"], "train")


@given(
    st.lists(st.sampled_from("aaab"), min_size=4, max_size=60),
    st.floats(0.1, 0.9),
    st.integers(0, 5),
    st.booleans(),
)
def test_drawing_rows(classes: list[str], share: float, seed: int, by_class: bool) -> None:
    table = range(len(classes))
    count = max(1, int(share * len(classes)))
    first, rest = examples.draw(table, count, seed, classes if by_class else None)  # type: ignore[arg-type]
    assert len(first) == count
    assert sorted([*first, *rest]) == list(table)
    assert (first, rest) == examples.draw(table, count, seed, classes if by_class else None)  # type: ignore[arg-type]
    if by_class:
        for name in set(classes):
            drawn = sum(classes[row] == name for row in first)
            assert abs(drawn - count * classes.count(name) / len(classes)) < 2


def _plan(**columns: Any) -> Any:
    return detect(describe(datasets.Dataset.from_dict(columns)))


def test_classes() -> None:
    plan = _plan(text=["a", "b"] * 4, label=["x", "y"] * 4)
    table = datasets.Dataset.from_dict({"text": ["a"] * 3, "label": ["y", "z", "x"]})
    assert examples.class_names(plan, {"train": table}, flags=False) == ("x", "y", "z")
    numbers = datasets.Dataset.from_dict({"text": ["a"] * 3, "label": [10, -1, 2]})
    assert examples.class_names(plan, {"train": numbers}, flags=False) == ("-1", "2", "10")
    one = datasets.Dataset.from_dict({"text": ["a"], "label": ["x"]})
    with pytest.raises(InputError, match="holds one label only: x"):
        examples.class_names(plan, {"train": one}, flags=False)


def test_classes_of_a_model() -> None:
    plan = _plan(text=["a", "b"] * 4, label=["x", "y"] * 4)
    assert prepare.as_the_model(plan, ("x", "y"), ("y", "z", "x"), False) == (plan, ("y", "z", "x"))
    assert prepare.as_the_model(plan, ("0", "2"), ("a", "b", "c"), False) == (plan, ("0", "1", "2"))
    assert prepare.as_the_model(plan, ("1", "5"), ("bad", "good"), True) == (plan, ("1", "5"))
    with pytest.raises(InputError, match="The data have the labels x, w; the model knows x, y"):
        prepare.as_the_model(plan, ("x", "w"), ("x", "y"), False)
