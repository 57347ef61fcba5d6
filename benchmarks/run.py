"""`python benchmarks/run.py`, from any folder: the same as `python -m benchmarks` in the repository's root."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    runpy.run_module("benchmarks", run_name="__main__")
