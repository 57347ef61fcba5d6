"""A hub on 127.0.0.1 that takes what huggingface_hub uploads: repositories, commits and their files."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_" + "a" * 34


@dataclass
class Commit:
    """One commit: its message, its branch, and its files by name."""

    repo: str
    revision: str
    message: str
    files: dict[str, bytes]


@dataclass
class UploadHub:
    """The server's address, who owns the token, and what came in."""

    url: str
    repos: dict[str, bool] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    # Uploads wait for this.
    gate: threading.Event = field(default_factory=threading.Event)
    broken: bool = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: UploadHub

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if "whoami" not in self.path or self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid token"})
        self._send(200, {"name": "me", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def do_POST(self) -> None:
        data = self._body()
        path = unquote(self.path.partition("?")[0])
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid token"})
        if path == "/api/repos/create":
            wish = json.loads(data)
            name = f"{wish.get('organization') or 'me'}/{wish['name']}"
            taken = name in self.hub.repos
            self.hub.repos.setdefault(name, wish.get("private") or wish.get("visibility") == "private")
            return self._send(409 if taken else 200, {"url": f"{self.hub.url}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        repo, _, rest = path.removeprefix("/api/models/").partition("/preupload/")
        if rest:
            files = json.loads(data)["files"]
            answers = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in files]
            return self._send(200, {"files": answers})
        repo, _, revision = path.removeprefix("/api/models/").partition("/commit/")
        self.hub.gate.wait(30)
        if self.hub.broken:
            return self._send(403, {"error": "No space"})
        lines = [json.loads(line) for line in data.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        files = {v["path"]: base64.b64decode(v["content"]) for v in (x["value"] for x in lines if x["key"] == "file")}
        self.hub.commits.append(Commit(repo, revision, header["summary"], files))
        self._send(200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{'b' * 40}", "commitOid": "b" * 40})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serve() -> Iterator[UploadHub]:
    """A running hub without repositories; uploads are let in at once."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.hub = UploadHub(f"http://127.0.0.1:{server.server_port}")
    handler.hub.gate.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield handler.hub
    finally:
        handler.hub.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
