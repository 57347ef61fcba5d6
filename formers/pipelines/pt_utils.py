"""Views on one or two columns of a dataset, to pass to a pipeline; under the name that tutorials import them from."""

from __future__ import annotations

from typing import Any, Protocol


class _Dataset(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class KeyDataset:
    """One column of a dataset of dictionaries."""

    def __init__(self, dataset: _Dataset, key: str) -> None:
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][self.key]


class KeyPairDataset:
    """Two columns of a dataset of dictionaries, as pairs of texts."""

    def __init__(self, dataset: _Dataset, key1: str, key2: str) -> None:
        self.dataset = dataset
        self.key1 = key1
        self.key2 = key2

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.dataset[index]
        return {"text": row[self.key1], "text_pair": row[self.key2]}
