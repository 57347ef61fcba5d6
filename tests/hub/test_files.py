"""Names and folders: what wins, what is refused, what is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formers.errors import ConfigError, InputError, ModelNotFoundError
from formers.hub.files import Folder, Source, resolve
from formers.hub.paths import is_inside


def folder_of(name: str) -> Path:
    home = resolve(name).home
    assert isinstance(home, Folder)
    return home.folder


def test_a_folder_wins_over_an_installed_package(minilm, tmp_path, monkeypatch):
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert folder_of(name) == minilm
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert folder_of(name).resolve() == tmp_path / name


def test_an_installed_package_wins_over_the_hub(minilm, online):
    online.add("sentence-transformers/all-MiniLM-L6-v2", {"config.json": b"{}"})
    for name in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        assert resolve(name).require("config.json") == minilm / "config.json"
    assert online.requests == []


@pytest.mark.parametrize("source", [Source(revision="v2"), Source(force_download=True)])
def test_what_a_package_cannot_serve_comes_from_the_hub(minilm, online, source):
    repo = online.add("sentence-transformers/all-MiniLM-L6-v2", {"config.json": b'{"hub": 1}'})
    repo.revisions["v2"] = "c" * 40
    assert resolve("all-MiniLM-L6-v2", source).read_json("config.json") == {"hub": 1}


def test_find_and_require(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "folder.json").mkdir()
    files = resolve(tmp_path)
    assert files.name == str(tmp_path)
    assert files.find("config.json") == tmp_path / "config.json"
    assert files.find("vocab.txt") is None
    assert files.find("folder.json") is None
    with pytest.raises(
        ModelNotFoundError, match=rf"The folder '{tmp_path}' has no file 'vocab.txt'\. Put the file there"
    ):
        files.require("vocab.txt")


def test_subfolder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "config.json").write_text('{"inner": 1}')
    assert resolve(tmp_path, Source(subfolder="inner")).read_json("config.json") == {"inner": 1}
    with pytest.raises(ModelNotFoundError, match=r"no folder .*other.*`subfolder`"):
        resolve(tmp_path, Source(subfolder="other"))
    with pytest.raises(InputError, match=r"subfolder='../x' leaves the model's folder"):
        resolve(tmp_path, Source(subfolder="../x"))


def test_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert folder_of("~/model") == tmp_path / "model"


@pytest.mark.parametrize("name", ["", "  ", None, 3, b"model"])
def test_not_a_name(name):
    with pytest.raises(InputError, match="named by a string or a path"):
        resolve(name)


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelNotFoundError, match=r"is a file.*Pass the folder"):
        resolve(tmp_path / "model.safetensors")


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "[" * 100_000, "\ud800"])
def test_not_json(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=r"'config.json' of .* is not valid JSON: .* Fix or replace .*config.json"):
        resolve(tmp_path).read_json("config.json")


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType")])
def test_not_an_object(tmp_path, text, kind):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"must hold a JSON object, not a {kind}"):
        resolve(tmp_path).read_json("config.json")


@pytest.mark.parametrize(
    "name", ["../secret", "a/../../secret", "/etc/passwd", "..\\secret", "C:\\x", "C:x", "\\x", "", "a\0b"]
)
def test_names_that_leave_the_folder(tmp_path, name):
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_text("x")
    with pytest.raises(InputError, match="not the name of a file inside the model"):
        resolve(tmp_path / "model").find(name)


@given(st.text(alphabet="ab./\\:~\0", max_size=12))
def test_an_inside_name_stays_inside(name):
    root = Path("/root/model")
    if is_inside(name):
        joined = (root / name).parts
        assert joined[: len(root.parts)] == root.parts
        assert ".." not in joined
    else:
        assert not name or any(sign in name for sign in ("..", "/", "\\", ":", "\0"))
