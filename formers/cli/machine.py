"""What formers finds on a machine: versions, cores, accelerators, caches, models, extras. `formers info` shows it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

from formers import __version__
from formers.errors import ModelNotFoundError
from formers.hub.packages import BUNDLED, GROUP, KNOWN, find_package
from formers.hub.paths import formers_cache, hub_cache

CORE = ("torch", "tokenizers", "safetensors", "huggingface_hub", "numpy")
VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "FORMERS_CACHE", "OMP_NUM_THREADS")


def describe() -> dict[str, dict[str, str]]:
    """Everything, as section to name to value. Imports torch."""
    return {
        "versions": versions(),
        "processor": processor(),
        "accelerators": accelerators(),
        "caches": {"hub": _size(hub_cache()), "formers": _size(formers_cache())},
        "models on this machine": packaged_models(),
        "extras": extras(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def versions() -> dict[str, str]:
    """Of formers, Python, the system and the packages that the core stands on."""
    return {
        "formers": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: _version(name) or "not installed" for name in CORE},
    }


def processor() -> dict[str, str]:
    """The cores that this process may use, the threads that torch uses, the instructions that its kernels use."""
    import torch

    return {
        "cores": f"{usable_cores():g} of {os.cpu_count()}",
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def usable_cores(root: Path = Path("/")) -> float:
    """How many cores this process may keep busy: its affinity, capped by the quotas of its control groups.

    `root` is where `proc` and `sys` are looked for. Quotas are read as Linux gives them (cgroup v1 and v2).
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    for folder in _control_groups(root):
        cores = min(cores, _quota(folder))
    return cores


def _control_groups(root: Path) -> list[Path]:
    """The folders of this process's control groups and of their parents: each may set a quota."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    mount = root / "sys/fs/cgroup"
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        # In a container the path may be the host's, which does not exist here; the quota is then at the top.
        relative = Path(path.lstrip("/"))
        folders += [top / each for each in (relative, *relative.parents)]
    return folders


def _quota(folder: Path) -> float:
    """The cores that one control group allows; infinite if it sets no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        cores = float(quota) / float(period)
    except (OSError, ValueError):  # no such files, or "max"
        return float("inf")
    return cores if cores > 0 else float("inf")


def accelerators() -> dict[str, str]:
    """The GPUs that torch sees, with their memory."""
    import torch

    if not torch.accelerator.is_available():
        return {"none": "pipelines run on the CPU"}
    kind = torch.accelerator.current_accelerator()
    found = {}
    for index in range(torch.accelerator.device_count()):
        about = f"{kind}:{index}"
        found[about] = "available"
        if kind is not None and kind.type == "cuda":
            card = torch.cuda.get_device_properties(index)
            found[about] = f"{card.name}, {_bytes(card.total_memory)}"
    return found


def packaged_models() -> dict[str, str]:
    """The models that formers and installed packages carry, with their folders."""
    from importlib.metadata import entry_points

    found = {}
    for name in sorted({*BUNDLED, *KNOWN, *(entry.name for entry in entry_points(group=GROUP))}):
        try:
            folder = find_package(name)
        except ModelNotFoundError as error:
            found[name] = str(error)
            continue
        if folder is not None:
            found[name] = f"{folder} ({_bytes(_total(folder)[1])})"
    return found


def extras() -> dict[str, str]:
    """Whether what each extra needs is installed; what is missing by name."""
    from packaging.requirements import Requirement

    try:
        about = metadata("formers")
    except PackageNotFoundError:
        return {"unknown": "formers runs from a folder, it is not installed"}
    needs = [Requirement(line) for line in about.get_all("Requires-Dist") or ()]
    found = {}
    for extra in about.get_all("Provides-Extra") or ():
        names = [
            need.name
            for need in needs
            if need.marker and need.marker.evaluate({"extra": extra}) and not need.marker.evaluate({"extra": ""})
        ]
        missing = [name for name in names if _version(name) is None]
        found[extra] = f"missing: {', '.join(missing)} (pip install 'formers[{extra}]')" if missing else "installed"
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _size(cache: Path) -> str:
    if not cache.is_dir():
        return f"{cache} (empty)"
    files, size = _total(cache)
    return f"{cache} ({_bytes(size)} in {files:,} files)"


def _total(folder: Path) -> tuple[int, int]:
    """How many files a folder holds, and their bytes, without links: the hub's cache links to its own files."""
    files = size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                path = Path(parent, name)
                if not path.is_symlink():
                    files, size = files + 1, size + path.stat().st_size
            except OSError:  # vanished meanwhile
                continue
    return files, size


def _bytes(count: float) -> str:
    power = 0
    while count >= 1000 and power < 4:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {('B', 'KB', 'MB', 'GB', 'TB')[power]}" if power else f"{count:.0f} B"
