"""Threads, forks and imports: nothing is shared that calls could fight over."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from formers import AutoTokenizer

from .conftest import TEXTS

SETTINGS: list[dict[str, Any]] = [
    {},
    {"padding": True},
    {"truncation": True, "max_length": 5},
    {"truncation": True, "max_length": 7, "padding": "max_length"},
    {"truncation": True, "max_length": 9, "stride": 1, "return_overflowing_tokens": True},
    {"padding": True, "padding_side": "left", "return_tensors": "np"},
    {"padding": "max_length", "max_length": 40, "return_offsets_mapping": True},
    {"split_special_tokens": True, "truncation": True, "max_length": 11},
]


def listed(batch: Any) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in batch.items()}


def test_sixteen_threads_with_different_settings(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    expected = [listed(AutoTokenizer.from_pretrained(bert_folder)(TEXTS, **arguments)) for arguments in SETTINGS]
    start = Barrier(16)

    def work(index: int) -> None:
        start.wait()
        for turn in range(25):
            which = (index + turn) % len(SETTINGS)
            batch = tokenizer(TEXTS, **SETTINGS[which])
            assert listed(batch) == expected[which]
            single = tokenizer(TEXTS[turn % len(TEXTS)], **{**SETTINGS[which], "return_tensors": None})
            assert single.tokens()

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(work, index) for index in range(16)]:
            done.result()


def test_adding_tokens_while_others_encode(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    before = tokenizer(TEXTS, truncation=True, max_length=9)["input_ids"]
    stop = Event()

    def work() -> int:
        rounds = 0
        while not stop.is_set():
            batch = tokenizer(TEXTS, truncation=True, max_length=9)
            assert batch["input_ids"] == before
            assert [row.ids for row in batch.encodings] == before
            rounds += 1
        return rounds

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work) for _ in range(4)]
        try:
            for index in range(60):
                assert tokenizer.add_tokens([f"unseen{index}"]) == 1
        finally:
            stop.set()
        assert all(done.result() for done in running)
    assert len(tokenizer("unseen7 unseen59", add_special_tokens=False)["input_ids"]) == 2


def test_adding_tokens_from_several_threads(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda index: tokenizer.add_tokens([f"own{index}"]), range(80)))
    assert counts == [1] * 80
    assert {f"own{index}" for index in range(80)} <= set(tokenizer.get_vocab())
    assert len(set(tokenizer.added_tokens_encoder.values())) == len(tokenizer.added_tokens_encoder)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


FORK = """
import os, sys
from formers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1] if len(sys.argv) > 1 else {folder!r})
texts = ["the quick brown fox"] * 300
expected = tokenizer(texts)["input_ids"]
before = os.environ.get("TOKENIZERS_PARALLELISM")
for _ in range(2):
    child = os.fork()
    if child == 0:
        right = tokenizer(texts)["input_ids"] == expected
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if tokenizer(texts)["input_ids"] == expected else 3)
        right = right and os.waitpid(grandchild, 0)[1] == 0
        os._exit(0 if right else 4)
    assert os.waitpid(child, 0)[1] == 0
assert os.environ.get("TOKENIZERS_PARALLELISM") == before
print(before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_forks_are_quiet_and_work(bert_folder: Path) -> None:
    done = run(FORK.format(folder=str(bert_folder)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_what_the_user_set_stays(bert_folder: Path) -> None:
    done = run(FORK.format(folder=str(bert_folder)), TOKENIZERS_PARALLELISM="false")
    assert (done.returncode, done.stdout, done.stderr) == (0, "false\n", "")


def test_neither_torch_nor_numpy_before_tensors_are_asked_for(bert_folder: Path) -> None:
    code = f"""
import sys
from formers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(bert_folder)!r})
batch = tokenizer(["the quick", "brown"], "fox jumps".split(), padding=True, truncation=True, max_length=9)
batch.word_ids(1), tokenizer.decode(batch["input_ids"]), tokenizer.pad(batch)
heavy = {{"torch", "numpy", "huggingface_hub", "safetensors", "transformers", "requests"}}
print(sorted(heavy & set(sys.modules)))
tokenizer("text", return_tensors="np")
print("torch" in sys.modules)
"""
    done = run(code)
    assert (done.returncode, done.stdout) == (0, "[]\nFalse\n"), done.stderr
