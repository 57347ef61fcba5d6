"""Data sets for `formers train` and `formers eval`: files, folders and hub names become splits of Arrow tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formers.cli.columns import Column, Kind
from formers.cli.rows import FORMATS as ROW_FORMATS
from formers.cli.rows import from_file
from formers.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import datasets
    import pyarrow

FORMATS = (*ROW_FORMATS, "parquet")
TRAIN, VALIDATION, TEST = "train", "validation", "test"
_SPLIT = re.compile(
    r"(?:^|[\W_])(?:(train|training)|(validation|valid|val|dev|eval|evaluation)|(test|testing))(?![a-z])"
)
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_ROWS_AT_A_TIME = 10_000
# A longer name of a column is a text, and the line of names is missing.
_LONGEST_NAME = 60
# So many rows tell the kinds of columns.
_LOOKED_AT = 100_000


def load(
    data: str, format: str | None = None, columns: Sequence[str] | None = None, subset: str | None = None
) -> dict[str, datasets.Dataset]:
    """The splits of a file, of a folder of files, of a folder that `save_to_disk` wrote, or of a dataset of the hub.

    A single file, or a dataset without splits, is "train". `format` says what the files are where their names do not;
    `columns` names those of CSV and TSV files without a line of names; `subset` names one of several datasets of a hub
    repository. InputError for what cannot be read, or has no rows.
    """
    _needs("datasets")
    if format is not None and format not in FORMATS:
        raise InputError(f"There is no format {format!r}.", f"Choose among {', '.join(FORMATS)}.")
    path = Path(data).expanduser()
    if path.is_dir():
        found = _saved(path)
        found = _tables(split_files(path, format), format, columns) if found is None else found
    elif path.exists():
        found = _tables({TRAIN: [path]}, format, columns)
    else:
        found = _from_hub(data, subset)
    empty = [name for name, table in found.items() if not len(table)]
    if empty:
        raise InputError(f"{data}: {' and '.join(empty)} has no rows.", "Check the file, or take it away.")
    return found


def split_files(folder: Path, format: str | None = None) -> dict[str, list[Path]]:
    """The files of a folder by split, as their names say: train, validation (also dev, val, …) and test.

    A folder with one file of data has it as "train". Parts of a split come in the order of their names.
    """
    places = [folder, *(child for child in (folder / "data",) if child.is_dir())]
    files = sorted(file for place in places for file in place.iterdir() if file.is_file())
    wanted = FORMATS if format is None else (format, "txt")
    files = [file for file in files if not file.name.startswith(".") and _extension(file) in wanted]
    splits: dict[str, list[Path]] = {}
    for file in files:
        split = split_named(file.stem)
        if split is not None:
            splits.setdefault(split, []).append(file)
    if splits:
        return {name: splits[name] for name in (TRAIN, VALIDATION, TEST) if name in splits}
    if len(files) == 1:
        return {TRAIN: files}
    inside = f"it holds {', '.join(file.name for file in files[:5])}" if files else "it holds no data"
    raise InputError(
        f"The folder {str(folder)!r} has no files of splits: {inside}.",
        f"Name them train, validation and test with one of the endings {', '.join(FORMATS)}, or pass one file.",
    )


def split_named(name: str) -> str | None:
    """The split that a name speaks of, None for none."""
    match = _SPLIT.search(name.lower())
    return None if match is None else (TRAIN, VALIDATION, TEST)[(match.lastindex or 1) - 1]


def describe(dataset: datasets.Dataset) -> list[Column]:
    """What is known of each column."""
    table = dataset.data.slice(0, _LOOKED_AT)
    return [_described(name, table.column(name), dataset.features[name]) for name in dataset.column_names]


def typed(tables: Mapping[str, pyarrow.Table]) -> dict[str, pyarrow.Table]:
    """Tables of texts with those columns as numbers that hold nothing else in any of the tables."""
    import pyarrow as pa

    made = dict(tables)
    for name in dict.fromkeys(name for table in tables.values() for name in table.column_names):
        columns = {split: table.column(name) for split, table in tables.items() if name in table.column_names}
        numbers = next((n for kind in (pa.int64(), pa.float64()) if (n := _cast(columns, kind))), None)
        for split, column in (numbers or {}).items():
            made[split] = made[split].set_column(made[split].column_names.index(name), name, column)
    return made


def _cast(columns: Mapping[str, Any], kind: Any) -> dict[str, Any] | None:
    """Columns of texts as numbers, empty texts as missing; None if a text is no number, or all are empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    made = {}
    for split, column in columns.items():
        if not pa.types.is_string(column.type):
            return None
        filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        try:
            made[split] = filled.cast(kind)
        except pa.ArrowInvalid:
            return None
    return made if any(column.null_count < len(column) for column in made.values()) else None


def _tables(
    files: Mapping[str, Sequence[Path]], format: str | None, columns: Sequence[str] | None
) -> dict[str, datasets.Dataset]:
    import datasets
    import pyarrow as pa
    from datasets.table import InMemoryTable

    read = {}
    for split, paths in files.items():
        parts = [part for path in paths for part in _read(path, format or _extension(path), columns)]
        try:
            read[split] = pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})
        except pa.ArrowException as error:
            raise InputError(
                f"{', '.join(path.name for path in paths)}: a column holds values of several kinds: {error}.",
                "Give each column one kind of values.",
            ) from None
    if all((format or _extension(path)) in ("csv", "tsv") for paths in files.values() for path in paths):
        read = typed(read)
    return {split: datasets.Dataset(InMemoryTable(table)) for split, table in read.items()}


def _read(path: Path, format: str, columns: Sequence[str] | None) -> Iterator[pyarrow.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if format == "parquet":
        try:
            yield pq.read_table(path)
        except pa.ArrowException as error:
            raise InputError(f"{path} is no Parquet file: {error}", "Check the file.") from None
        return
    if format not in ROW_FORMATS:
        raise InputError(
            f"The name {path.name!r} does not say the format.",
            f"Say it with --format: one of {', '.join(FORMATS)}.",
        )
    with from_file(str(path), format, columns) as rows:
        if format in ("csv", "tsv") and columns is None:
            _check_names(path, rows.columns)
        while part := [row.columns for row in islice(rows, _ROWS_AT_A_TIME)]:
            names = dict.fromkeys(name for row in part for name in row)
            try:
                yield pa.table({name: pa.array([row.get(name) for row in part]) for name in names})
            except (pa.ArrowException, OverflowError) as error:
                raise InputError(
                    f"{path}: a column holds values of several kinds: {error}.", "Give each column one kind of values."
                ) from None


def _check_names(path: Path, names: Sequence[str]) -> None:
    long = next((name for name in names if len(name) > _LONGEST_NAME), None)
    if long is not None:
        raise InputError(
            f"The first line of {path} should name the columns, and reads {long[:_LONGEST_NAME]!r}….",
            "Add a line of names, or name them here: --columns text,label.",
        )


def _saved(folder: Path) -> dict[str, datasets.Dataset] | None:
    """The splits of a folder that `save_to_disk` wrote, None for any other folder."""
    import datasets

    if not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise InputError(f"{folder} cannot be read as a saved dataset: {_line(error)}", "Save it anew.") from error
    return _splits(found)


def _from_hub(name: str, subset: str | None) -> dict[str, datasets.Dataset]:
    import datasets

    if not _HUB_NAME.fullmatch(name) or _extension(Path(name)) in FORMATS:
        raise InputError(f"There is no file or folder {name!r}.", "Check the path.")
    try:
        found = datasets.load_dataset(name, subset)
    except Exception as error:  # the library's own, of any class: no such dataset, no network, a script, a bad file
        raise InputError(
            f"There is no file or folder {name!r}, and no such dataset could be loaded from the hub: {_line(error)}",
            "Check the name and the network; --subset NAME picks one of several datasets of a repository.",
        ) from error
    return _splits(found)


def _splits(found: Any) -> dict[str, datasets.Dataset]:
    """The splits under the names train, validation and test; others keep theirs."""
    if not isinstance(found, Mapping):
        return {TRAIN: found.flatten_indices()}
    splits: dict[str, datasets.Dataset] = {}
    for name, dataset in found.items():
        named = split_named(str(name))
        # Of several such as validation_matched and validation_mismatched the first one stands for all.
        splits.setdefault(named if named is not None and named not in splits else str(name), dataset.flatten_indices())
    return splits


def _described(name: str, column: Any, feature: Any) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    declared = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    names = None if declared is None else tuple(map(str, declared))
    values, listed = column, _is_list(column.type)
    lengths = None
    if listed:
        lengths = pc.list_value_length(column).drop_null()
        values = pc.list_flatten(column)
    kind = _kind(values.type, listed)
    if kind == "other":
        return Column(name, kind, len(column), names=names)
    present = values.drop_null()
    if lengths is None and kind == "text":
        lengths = pc.utf8_length(present)
    numeric = kind in ("integer", "number", "integers", "numbers") and len(present) > 0
    whole = (
        not pa.types.is_floating(values.type)
        or not numeric
        or bool(pc.all(pc.equal(pc.floor(present), present)).as_py())
    )
    low, high = (pc.min(present).as_py(), pc.max(present).as_py()) if numeric else (0, 1)
    return Column(
        name,
        kind,
        rows=len(column) - column.null_count,
        distinct=pc.count_distinct(present).as_py(),
        length=float(pc.mean(lengths).as_py() or 0) if lengths is not None and len(lengths) else 0.0,
        whole=whole,
        flags=numeric and whole and 0 <= low <= high <= 1,
        even=listed and pc.count_distinct(lengths).as_py() == 1,
        names=names,
    )


def _kind(type: Any, listed: bool) -> Kind:
    import pyarrow as pa

    is_ = pa.types
    if is_.is_string(type) or is_.is_large_string(type):
        return "texts" if listed else "text"
    if is_.is_boolean(type):
        return "integers" if listed else "boolean"
    if is_.is_integer(type):
        return "integers" if listed else "integer"
    if is_.is_floating(type):
        return "numbers" if listed else "number"
    return "other"


def _is_list(type: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type))


def _extension(path: Path) -> str:
    return path.suffix.lower().lstrip(".")


def _line(error: BaseException) -> str:
    """An exception in one line that ends like a sentence."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return text.rstrip(".: ") + "."


def _needs(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingDependencyError.for_extra(package, "train")
