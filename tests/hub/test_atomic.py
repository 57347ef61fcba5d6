"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import stat

import pytest

from formers.hub.atomic import staged, write_bytes, write_json, write_text


def test_writes(tmp_path):
    assert write_bytes(tmp_path / "a", b"\0\1").read_bytes() == b"\0\1"
    assert write_text(tmp_path / "b", "ä\n").read_bytes() == "ä\n".encode()
    path = write_json(tmp_path / "c", {"b": "ä", "a": [1]}, sort_keys=True)
    assert path.read_bytes() == '{\n  "a": [\n    1\n  ],\n  "b": "ä"\n}\n'.encode()
    assert list(json.loads(write_json(tmp_path / "d", {"b": 1, "a": 2}).read_text())) == ["b", "a"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = write_text(tmp_path / "config.json", "old")

    def interrupted() -> None:
        with staged(target) as draft:
            draft.write_text("half")
            assert draft.parent == tmp_path
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["config.json"]
    assert target.read_text() == "old"
    with pytest.raises(TypeError):
        write_json(target, {"a": object()})
    assert target.read_text() == "old"


def test_the_old_file_stays_until_the_end(tmp_path):
    target = write_text(tmp_path / "x", "old")
    with staged(target) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["x"]


def test_a_link_is_replaced_not_followed(tmp_path):
    shared = write_text(tmp_path / "blob", "shared")
    (tmp_path / "link").symlink_to(shared)
    write_text(tmp_path / "link", "own")
    assert shared.read_text() == "shared"
    assert (tmp_path / "link").read_text() == "own"


def test_rights_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with staged(tmp_path / "x") as draft:
        draft.unlink()
        os.close(os.open(draft, os.O_CREAT, 0o600))  # as a writer that makes its own private file does
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "x", "")
