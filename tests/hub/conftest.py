"""A small model hub on 127.0.0.1: what huggingface_hub asks of the real one to download files, and its ways to fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

COMMIT = "a" * 40


@dataclass
class Repo:
    """One model: its files by name, its commits by branch, tag or hash, and how it answers."""

    files: dict[str, bytes]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, COMMIT: COMMIT})
    status: int = 200  # of every answer; 401 and 403 unless `token` is sent
    error: str = ""  # X-Error-Code
    token: str = ""
    cut: frozenset[str] = frozenset()  # files whose connection breaks half way
    short: frozenset[str] = frozenset()  # files of which less comes than was announced
    linked: frozenset[str] = frozenset()  # files that another address serves, as large ones are


@dataclass
class Hub:
    """The server's address, its models, and the requests it has seen."""

    url: str
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def add(self, name: str, files: dict[str, bytes], linked: frozenset[str] = frozenset()) -> Repo:
        """Serve a model from now on."""
        self.repos[name] = Repo(files, linked=linked)
        return self.repos[name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.tokens.add(token)
        name, _, rest = unquote(self.path.strip("/")).partition("/resolve/")
        at_cdn = name.startswith("cdn/")
        repo = self.hub.repos.get(name.removeprefix("cdn/"))
        revision, _, filename = rest.partition("/")
        if repo is None:
            return self._refuse(404, "RepoNotFound")
        if repo.status != 200 and (not repo.token or token != repo.token):
            return self._refuse(repo.status, repo.error)
        if revision not in repo.revisions:
            return self._refuse(404, "RevisionNotFound")
        commit = repo.revisions[revision]
        if filename not in repo.files:
            return self._refuse(404, "EntryNotFound", commit)
        data = repo.files[filename]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        if filename in repo.linked and not at_cdn:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
            headers |= {"Location": f"{self.hub.url}/cdn/{name}/resolve/{commit}/{filename}", "Content-Length": "0"}
            return self._send(302, headers, b"")
        if filename in repo.short and body:
            data = data[: len(data) // 2]
        self._send(200, headers | {"Content-Length": str(len(data))}, data if body else b"", cut=filename in repo.cut)

    def _refuse(self, status: int, error: str, commit: str = "") -> None:
        headers = {"X-Error-Code": error, "X-Repo-Commit": commit, "Content-Length": "0"}
        self._send(status, {name: value for name, value in headers.items() if value}, b"")

    def _send(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A running hub without models."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler.hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A running hub that formers will ask, with an empty cache and no stored token."""
    import huggingface_hub.constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FORMERS_CACHE", str(tmp_path / "formers"))
    return hub
