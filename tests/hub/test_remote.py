"""Models on the hub: downloads, the cache, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from formers.errors import InputError, ModelNotFoundError
from formers.hub.files import Source, resolve
from formers.hub.remote import HubUnreachableError

COMMIT, OLDER = "a" * 40, "b" * 40
CONFIG = b'{"model_type": "bert"}'


def contents(cache: Path) -> list[str]:
    """The names of all files with content in a cache folder, whole or not."""
    names = [path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()]
    return sorted(name for name in names if "/blobs/" in name or "/snapshots/" in name)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def repo(online):
    """A model `org/tiny` on the hub: its config, and weights that another address serves."""
    files = {"config.json": CONFIG, "model.safetensors": bytes(5000)}
    return online.add("org/tiny", files, linked=frozenset({"model.safetensors"}))


def test_a_file_is_downloaded_once(online, repo, cache):
    files = resolve("org/tiny")
    assert files.read_json("config.json") == {"model_type": "bert"}
    assert files.require("model.safetensors").read_bytes() == bytes(5000)
    assert files.find("tokenizer.json") is None
    online.requests.clear()
    again = resolve("org/tiny")
    assert again.require("config.json").read_bytes() == CONFIG
    assert again.require("model.safetensors").is_relative_to(cache)
    assert again.find("tokenizer.json") is None
    assert online.requests == []


def test_huggingface_hub_reads_the_same_cache(online, repo, cache):
    ours = resolve("org/tiny").require("config.json")
    theirs = huggingface_hub.try_to_load_from_cache("org/tiny", "config.json", cache_dir=cache)
    assert str(ours) == theirs


CACHED_LOAD = """
import socket, sys
def blocked(*args, **kwargs):
    raise AssertionError("network used")
socket.socket = socket.create_connection = socket.getaddrinfo = blocked
from formers.hub.files import Source, resolve
files = resolve("org/tiny", Source(local_files_only="--local" in sys.argv))
assert files.read_json("config.json") == {"model_type": "bert"}
assert files.find("tokenizer.json") is None
assert len(files.require("model.safetensors").read_bytes()) == 5000
assert "huggingface_hub" not in sys.modules and "torch" not in sys.modules
"""


@pytest.mark.parametrize("argument", ["--online", "--local"])
def test_a_cached_load_uses_no_network(online, repo, argument):
    files = resolve("org/tiny")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        files.find(name)
    subprocess.run([sys.executable, "-c", CACHED_LOAD, argument], check=True, env=os.environ | {"PYTHONPATH": "."})


def test_a_download_shows_progress(online, repo):
    script = "from formers.hub.files import resolve; resolve('org/tiny').require('model.safetensors')"
    env = os.environ | {"PYTHONPATH": ".", "TQDM_POSITION": "-1"}
    env.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert "model.safetensors: 100%" in done.stderr


def test_cache_dir(online, repo, cache, tmp_path):
    path = resolve("org/tiny", Source(cache_dir=tmp_path / "elsewhere")).require("config.json")
    assert path.is_relative_to(tmp_path / "elsewhere")
    assert not cache.exists()


def test_home_of_the_cache(online, repo, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert resolve("org/tiny").require("config.json").is_relative_to(tmp_path / "home" / "hub")


def test_subfolder(online, repo):
    repo.files["inner/config.json"] = b'{"inner": 1}'
    assert resolve("org/tiny", Source(subfolder="inner")).read_json("config.json") == {"inner": 1}
    assert resolve("org/tiny", Source(subfolder="other")).find("config.json") is None


@pytest.mark.parametrize("revision", ["old", OLDER])
def test_revision(online, repo, revision):
    resolve("org/tiny").require("config.json")
    repo.revisions |= {"old": OLDER, OLDER: OLDER}
    repo.files["config.json"] = b'{"old": 1}'
    assert resolve("org/tiny", Source(revision=revision)).read_json("config.json") == {"old": 1}
    assert resolve("org/tiny").read_json("config.json") == {"model_type": "bert"}


def test_all_files_come_from_one_commit(online, repo):
    """What was not needed before the branch moved on is fetched at the commit that is cached, not at the new one."""
    resolve("org/tiny").require("config.json")
    repo.revisions |= {"main": OLDER, OLDER: OLDER}
    path = resolve("org/tiny").require("model.safetensors")
    assert path.parent.name == COMMIT


def test_force_download_follows_the_branch(online, repo):
    resolve("org/tiny").require("config.json")
    repo.revisions |= {"main": OLDER, OLDER: OLDER}
    repo.files["config.json"] = b'{"new": 1}'
    assert resolve("org/tiny").read_json("config.json") == {"model_type": "bert"}
    forced = resolve("org/tiny", Source(force_download=True))
    assert forced.read_json("config.json") == {"new": 1}
    assert resolve("org/tiny").read_json("config.json") == {"new": 1}
    online.requests.clear()
    forced.require("config.json")
    assert online.requests == [], "one load downloads a file once"


def test_force_download_needs_the_network(online):
    with pytest.raises(InputError, match="force_download=True needs the network"):
        resolve("org/tiny", Source(force_download=True, local_files_only=True))


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", None])
def test_offline(online, repo, monkeypatch, name):
    source = Source(local_files_only=name is None)
    if name:
        monkeypatch.setenv(name, "1")
    with pytest.raises(ModelNotFoundError, match=r"'org/tiny' .* is not in the cache .* network use is off"):
        resolve("org/tiny", source)
    if name:
        monkeypatch.delenv(name)
    resolve("org/tiny").require("config.json")
    online.requests.clear()
    if name:
        monkeypatch.setenv(name, "1")
    files = resolve("org/tiny", source)
    files.require("config.json")
    assert files.find("model.safetensors") is None
    with pytest.raises(ModelNotFoundError, match=r"in the cache .* has no file 'model.safetensors'.*network on"):
        files.require("model.safetensors")
    assert online.requests == []


def test_missing_repo(online, cache):
    with pytest.raises(ModelNotFoundError, match=r"no model 'org/none', or it is private; and no folder.*spelling"):
        resolve("org/none").find("config.json")
    assert contents(cache) == []


def test_missing_file(online, repo):
    with pytest.raises(ModelNotFoundError, match=r"'org/tiny' on the hub .* has no file 'vocab.txt'"):
        resolve("org/tiny").require("vocab.txt")


def test_missing_revision(online, repo):
    with pytest.raises(ModelNotFoundError, match=r"'org/tiny' has no revision 'none'"):
        resolve("org/tiny", Source(revision="none")).find("config.json")


def test_not_a_revision(online):
    with pytest.raises(InputError, match=r"revision='\.\./x' is not a revision"):
        resolve("org/tiny", Source(revision="../x"))


@pytest.mark.parametrize("status", [401, 403])
def test_gated_repo(online, repo, cache, status):
    repo.status, repo.error, repo.token = status, "GatedRepo", "hf_right"
    with pytest.raises(ModelNotFoundError, match=rf"gated.*HTTP {status}.*Ask for access at {online.url}/org/tiny"):
        resolve("org/tiny", Source(token="hf_wrong")).find("config.json")
    assert contents(cache) == []
    resolve("org/tiny", Source(token="hf_right")).require("config.json")


@pytest.mark.parametrize("status", [401, 403])
def test_refused_without_a_reason(online, repo, status):
    repo.status = status
    with pytest.raises(ModelNotFoundError, match=rf"refuses access to the model 'org/tiny' \(HTTP {status}\).*token"):
        resolve("org/tiny").find("config.json")


def test_tokens(online, repo, tmp_path, monkeypatch):
    resolve("org/tiny", Source(cache_dir=tmp_path / "1")).require("config.json")
    assert online.tokens == {""}
    monkeypatch.setenv("HF_TOKEN", "hf_stored")
    resolve("org/tiny", Source(cache_dir=tmp_path / "2", token=False)).require("config.json")
    assert online.tokens == {""}
    for token in (None, True):
        online.tokens.clear()
        resolve("org/tiny", Source(cache_dir=tmp_path / f"3{token}", token=token)).require("config.json")
        assert online.tokens == {"hf_stored"}


def test_no_stored_token(online, repo):
    with pytest.raises(InputError, match=r"no token is stored.*hf auth login"):
        resolve("org/tiny", Source(token=True)).find("config.json")


@pytest.mark.parametrize("fault", ["cut", "short"])
def test_broken_download(online, repo, cache, monkeypatch, fault):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between huggingface_hub's own attempts
    setattr(repo, fault, frozenset({"model.safetensors"}))
    files = resolve("org/tiny")
    with pytest.raises(
        ModelNotFoundError, match=r"download of 'model.safetensors' .* failed; no half file took its place"
    ):
        files.require("model.safetensors")
    assert contents(cache) == []
    setattr(repo, fault, frozenset())
    assert files.require("model.safetensors").read_bytes() == bytes(5000)


def test_server_down(online, monkeypatch, cache):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachableError, match=r"http://127.0.0.1:9 is out of reach.*Check the connection"):
        resolve("org/tiny").find("config.json")
    assert contents(cache) == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_server_in_trouble(online, repo, status):
    repo.status = status
    with pytest.raises(HubUnreachableError, match=rf"out of reach.*{status}"):
        resolve("org/tiny").find("config.json")


def test_not_a_hub(online, monkeypatch):
    """A login page of a network answers everything with 200."""
    monkeypatch.setattr("http.server.BaseHTTPRequestHandler.send_header", lambda self, name, value: None)
    online.add("org/tiny", {"config.json": CONFIG})
    with pytest.raises(HubUnreachableError, match=r"out of reach.*FileMetadataError"):
        resolve("org/tiny").find("config.json")


def test_server_down_with_a_partly_cached_model(online, repo, monkeypatch):
    resolve("org/tiny").require("config.json")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    files = resolve("org/tiny")
    assert files.require("config.json").read_bytes() == CONFIG
    with pytest.warns(UserWarning, match=r"out of reach.*taken to be absent"):
        assert files.find("tokenizer.json") is None
    assert files.find("vocab.txt") is None, "asked and warned once"
    with pytest.raises(ModelNotFoundError, match="in the cache"):
        files.require("model.safetensors")


@pytest.mark.parametrize(
    "name", ["../x", "/no/such/folder", "a/b/c", "a//b", "C:\\x", "org/..", "a b", "org/x--y", "." * 3]
)
def test_names_that_the_hub_cannot_have(online, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelNotFoundError, match=r"no folder .* cannot have that name"):
        resolve(name)
    assert online.requests == []


def test_cached_config_is_json(online, repo):
    repo.files["config.json"] = json.dumps({"ä": 1}).encode()
    assert resolve("org/tiny").read_json("config.json") == {"ä": 1}
