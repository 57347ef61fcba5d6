"""Measures formers and its peers in turns and prints one table. `make bench`, or `python benchmarks/run.py`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.catalog import BENCHMARKS, ONNX
from benchmarks.table import Line, compare, render
from benchmarks.timing import Contender, ContenderError, Record, alternate, measure

REPEATS = 5
QUICK = ("--sentences", "64", "--lines", "2000", "--quick")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 if a bar is missed, answers differ or something could not be measured."""
    given = _parser().parse_args(arguments)
    chosen = [benchmark for benchmark in BENCHMARKS if not given.only or benchmark.name in given.only]
    repeats = given.repeats or (1 if given.quick else REPEATS)
    load = os.getloadavg()[0]
    lines: list[Line] = []
    samples: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="formers-bench-") as name:
        folder = Path(name)
        preparing = [*(QUICK if given.quick else ())]
        for option, place in (("--data", given.data), ("--mrpc", given.mrpc)):
            preparing += (option, str(place.resolve())) if place else ()
        preparing += sorted({f"--{benchmark.needs}" for benchmark in chosen if benchmark.needs})
        if any(ONNX in benchmark.contenders for benchmark in chosen):
            preparing.append("--onnx")
        try:
            _tell("preparing the model and the data")
            measure(Contender(("-m", "benchmarks.prepare", *preparing), "ended", offline=False), folder)
            about = measure(Contender(("-m", "benchmarks.worker", "machine")), folder).answer
        except ContenderError as error:
            _tell("cannot prepare", str(error))
            return 1
        for benchmark in chosen:
            told = partial(_tell, benchmark.name)
            turns, warmups = (1, 0) if given.quick else (given.repeats or benchmark.turns or REPEATS, benchmark.warmups)
            records = alternate(benchmark.contenders, folder, turns, warmups, told)
            lines += [compare(benchmark.name, comparison, records) for comparison in benchmark.comparisons]
            samples[benchmark.name] = {name: _measured(record) for name, record in records.items()}
    about["taken"] = f"{repeats} repeats, load {load:.1f} at the start"
    if given.quick:
        about["taken"] += "; --quick: too little data for figures that mean anything"
    for key, value in about.items():
        print(f"{key}: {value}")
    print(f"\n{render(lines)}")
    if given.json:
        result = {"machine": about, "lines": [asdict(line) for line in lines], "samples": samples}
        given.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(line.met is False or line.note.startswith("answers differ") for line in lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with SST-2's train.tsv and validation.tsv (else: the hub)")
    parser.add_argument("--mrpc", type=Path, help="folder with msr_paraphrase_train.txt and …_test.txt (else: the hub)")
    parser.add_argument("--repeats", type=int, help=f"turns of every contender (default: {REPEATS})")
    parser.add_argument("--only", action="append", choices=[each.name for each in BENCHMARKS], help="may be repeated")
    parser.add_argument("--json", type=Path, help="write machine, lines and all samples to this file")
    parser.add_argument("--quick", action="store_true", help="little data, one repeat: does everything work?")
    return parser


def _measured(record: Record) -> dict[str, Any]:
    """A record without its answers, which are long."""
    return {
        "seconds": [sample.seconds for sample in record.samples],
        "rss": [sample.rss for sample in record.samples],
        "figures": [dict(sample.figures) for sample in record.samples],
        "error": record.error,
    }


def _tell(*parts: str) -> None:
    print(*parts, sep=": ", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
