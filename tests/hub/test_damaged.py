"""Weight files that are damaged, that lie, or that mean harm."""

from __future__ import annotations

import collections
import contextlib
import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formers.errors import CheckpointError, ConfigError, ModelNotFoundError
from formers.hub.atomic import write_bytes, write_text
from formers.hub.files import resolve
from formers.hub.weights import Checkpoint, save_weights


def read(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoint.open(resolve(folder))
    keys = checkpoint.keys()
    return {key: checkpoint.tensor(key).clone() for key in keys}


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


DAMAGED = {
    "empty file": b"",
    "three bytes": b"abc",
    "header longer than the file": safetensors({}, length=10**6),
    "absurd header length": safetensors({}, length=2**63),
    "header is not JSON": safetensors(b"{nonsense"),
    "header is not an object": safetensors([1, 2]),
    "data cut off": safetensors({"w": entry([4], 0, 16)}, bytes(8)),
    "data too long": safetensors({"w": entry([4], 0, 16)}, bytes(24)),
    "offsets past the end": safetensors({"w": entry([4], 10**9, 10**9 + 16)}, bytes(16)),
    "offsets the wrong way round": safetensors({"w": entry([4], 16, 0)}, bytes(16)),
    "shape larger than its data": safetensors({"w": entry([400], 0, 16)}, bytes(16)),
    "shape that overflows": safetensors({"w": entry([2**32, 2**32, 2**32], 0, 16)}, bytes(16)),
    "overlapping tensors": safetensors({"v": entry([4], 0, 16), "w": entry([4], 8, 24)}, bytes(24)),
    "unknown type": safetensors({"w": entry([4], 0, 16, "F31")}, bytes(16)),
    "type that torch lacks": safetensors({"w": entry([4], 0, 3, "F6_E2M3")}, bytes(3)),
    "negative shape": safetensors({"w": entry([-4], 0, 16)}, bytes(16)),
    "a web page": b"<!DOCTYPE html><html><body>Please log in</body></html>",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_safetensors(tmp_path, data):
    write_bytes(tmp_path / "model.safetensors", data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged: .*force_download=True"):
        read(tmp_path)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("safe", [True, False])
def test_truncated(tmp_path, keep, safe):
    (path,) = save_weights({"w": torch.ones(1000)}, tmp_path, safe_serialization=safe)
    write_bytes(path, path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CheckpointError, match=path.name):
        read(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_git_lfs_pointer(tmp_path, name):
    write_text(tmp_path / name, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(CheckpointError, match=r"is a Git LFS pointer.*git lfs pull"):
        read(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    weights = {"a": torch.ones(3), "b": torch.arange(4)}
    return {
        path.name: path.read_bytes()
        for safe in (True, False)
        for path in save_weights(weights, folder / str(safe), safe_serialization=safe)
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(["model.safetensors", "pytorch_model.bin"]))
def test_any_damage_is_an_error_or_harmless(tmp_path, whole, data, name):
    content = bytearray(whole[name])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    for other in tmp_path.iterdir():
        other.unlink()
    (tmp_path / name).write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read(tmp_path)


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)


def test_a_pickle_runs_no_code(tmp_path):
    trap = tmp_path / "ran"
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))):
        save({"w": Harmful(trap)}, tmp_path / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin (holds more than tensors|is damaged)"):
            read(tmp_path)
        assert not trap.exists()


@pytest.mark.parametrize(
    "value", [[torch.ones(1)], torch.ones(1), {"model": {"w": torch.ones(1)}}, {1: torch.ones(1)}, {"w": 3}]
)
def test_a_bin_file_that_is_no_state_dict(tmp_path, value):
    torch.save(value, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"not a flat mapping of names to tensors.*state_dict"):
        read(tmp_path)


def test_a_bin_file_from_before_zip_archives(tmp_path):
    expected = collections.OrderedDict(w=torch.arange(5.0), half=torch.ones(2).half())
    torch.save(expected, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "pytorch_model.bin")
    found = read(tmp_path)
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
class TestIndex:
    @pytest.mark.parametrize(
        "shard", ["../secret.safetensors", "/etc/passwd", "..\\secret.safetensors", "a/../../b", ""]
    )
    def test_outside_the_folder(self, tmp_path, name, shard):
        folder = tmp_path / "model"
        save_weights({"w": torch.ones(2)}, tmp_path / "secret")
        (tmp_path / "secret" / "model.safetensors").rename(tmp_path / "secret.safetensors")
        folder.mkdir()
        write_text(folder / name, json.dumps({"weight_map": {"w": shard}}))
        with pytest.raises(CheckpointError, match=r"names a file outside the model's folder: .*Do not use this model"):
            read(folder)

    @pytest.mark.parametrize("value", [{}, {"weight_map": []}, {"weight_map": {"w": 3}}, {"weight_map": None}])
    def test_without_a_weight_map(self, tmp_path, name, value):
        write_text(tmp_path / name, json.dumps(value))
        with pytest.raises(CheckpointError, match="has no weight_map of names to files"):
            read(tmp_path)

    def test_not_json(self, tmp_path, name):
        write_text(tmp_path / name, "{")
        with pytest.raises(ConfigError, match="is not valid JSON"):
            read(tmp_path)

    def test_missing_shard(self, tmp_path, name):
        write_text(tmp_path / name, json.dumps({"weight_map": {"w": "model-00001-of-00001.safetensors"}}))
        with pytest.raises(ModelNotFoundError, match=r"has no file 'model-00001-of-00001.safetensors'"):
            read(tmp_path)

    def test_missing_weights(self, tmp_path, name):
        save_weights({"w": torch.ones(2)}, tmp_path, variant="part")
        (tmp_path / "model.part.safetensors").rename(tmp_path / "part.safetensors")
        wanted = {f"w{i}": "part.safetensors" for i in range(7)} | {"w": "part.safetensors"}
        write_text(tmp_path / name, json.dumps({"weight_map": wanted}))
        with pytest.raises(CheckpointError, match="that its shards lack: w0, w1, w2, w3, w4 and 2 more"):
            read(tmp_path)

    def test_damaged_shard(self, tmp_path, name):
        write_text(tmp_path / name, json.dumps({"weight_map": {"w": "part.safetensors"}}))
        write_bytes(tmp_path / "part.safetensors", b"abc")
        with pytest.raises(CheckpointError, match=r"part\.safetensors is damaged"):
            read(tmp_path)
