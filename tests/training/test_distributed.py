"""Several processes train as one does: the same losses, the same weights, each example evaluated once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from formers import AutoModelForSequenceClassification
from formers.errors import CheckpointError
from formers.training import distributed
from formers.training.checkpoints import load_progress
from formers.training.distributed import _pieces
from tests.training.small import Pad, arguments, losses, model, same_weights, trainer, uneven

ROOT = Path(__file__).parents[2]
# 19 examples in steps of 8: the last step of an epoch has 3, for two processes with batches of 2 that is 2 and 1, and
# none for the second batches.
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "num_train_epochs": 2,
    "gradient_accumulation_steps": 2,
    "max_grad_norm": 0.5,
    "lr_scheduler_type": "linear",
    "warmup_steps": 2,
    "per_device_eval_batch_size": 3,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 0,
    "eval_strategy": "epoch",
    "include_num_input_tokens_seen": "non_padding",
}

WORKER = """
import json, sys
from pathlib import Path
from tests.training.small import losses
from tests.training.test_distributed import make

folder = Path(sys.argv[1])
made = make(folder / "run", per_device_train_batch_size=2)
made.train()
predicted = made.predict(made.eval_dataset)
again = make(folder / "again", per_device_train_batch_size=2, save_strategy="no")
again.train(resume_from_checkpoint=folder / "run" / "checkpoint-2")
rank = made.args.process_index
again.model.save_pretrained(folder / f"resumed-{rank}")
made.model.save_pretrained(folder / f"model-{rank}")
(folder / f"told-{rank}.json").write_text(json.dumps({
    "losses": losses(made),
    "resumed": losses(again),
    "norms": [entry["grad_norm"] for entry in made.state.log_history if "grad_norm" in entry],
    "evaluations": [entry for entry in made.state.log_history if "eval_loss" in entry],
    "tokens": made.state.num_input_tokens_seen,
    "flos": made.state.total_flos,
    "predictions": predicted.predictions.tolist(),
    "labels": predicted.label_ids.tolist(),
    "metrics": predicted.metrics,
    "place": [rank, made.args.world_size, made.is_world_process_zero(), made.state.is_world_process_zero],
}))
"""


def accuracy(prediction: Any) -> dict[str, float]:
    return {
        "accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean()),
        "count": len(prediction.label_ids),
    }


def make(folder: Path, **settings: Any) -> Any:
    return trainer(
        folder,
        train_dataset=uneven(19),
        eval_dataset=uneven(7),
        data_collator=Pad(),
        compute_metrics=accuracy,
        **{**SETTINGS, **settings},
    )


def launch(script: str, folder: Path, processes: int = 2) -> None:
    """Run a script in several processes as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            env={
                **os.environ,
                **shared,
                "RANK": str(n),
                "LOCAL_RANK": str(n),
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for n in range(processes)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(outputs)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    launch(WORKER, tmp_path)
    whole = make(tmp_path / "one", per_device_train_batch_size=4, per_device_eval_batch_size=6)
    whole.train()
    expected = whole.predict(whole.eval_dataset)
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2)]
    assert [one["place"] for one in told] == [[0, 2, True, True], [1, 2, False, False]]
    for rank, one in enumerate(told):
        assert one["losses"] == pytest.approx(losses(whole), abs=1e-5)
        norms = [entry["grad_norm"] for entry in whole.state.log_history if "grad_norm" in entry]
        assert one["norms"] == pytest.approx(norms, abs=1e-5)
        assert max(norms) > 0.5
        assert one["tokens"] == whole.state.num_input_tokens_seen
        # Batches are narrower where two processes pad them.
        assert 0 < one["flos"] <= whole.state.total_flos
        for mine, theirs in zip(
            one["evaluations"], [e for e in whole.state.log_history if "eval_loss" in e], strict=True
        ):
            for name in ("eval_loss", "eval_accuracy", "eval_count", "epoch", "step"):
                assert mine[name] == pytest.approx(theirs[name], abs=1e-5)
        torch.testing.assert_close(
            torch.tensor(one["predictions"]), torch.tensor(expected.predictions), atol=1e-5, rtol=0
        )
        assert one["labels"] == expected.label_ids.tolist()
        assert one["metrics"]["test_count"] == 7
        saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / f"model-{rank}")
        same_weights(saved, whole.model, atol=1e-5)
        resumed = AutoModelForSequenceClassification.from_pretrained(tmp_path / f"resumed-{rank}")
        same_weights(resumed, saved)
        assert one["resumed"] == one["losses"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines if '"loss"' in line] == told[0]["losses"]
    with pytest.raises(CheckpointError, match="saved by 2 processes; these are 1"):
        load_progress(tmp_path / "run" / "checkpoint-2", whole.optimizer, whole.lr_scheduler)


def test_one_process_talks_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.place() == distributed.Place(0, 1, 0)
    assert distributed.total(1, 2.5) == [1, 2.5]
    assert distributed.gather({"a": 1}) == [{"a": 1}]
    assert distributed.broadcast("x") == "x"
    made = model()
    distributed.add_gradients(made)
    assert all(parameter.grad is None for parameter in made.parameters())
    args = arguments(tmp_path)
    with args.main_process_first():
        assert (args.world_size, args.process_index, args.should_save, args.should_log) == (1, 0, True, True)
    for name, value in {"MASTER_ADDR": "127.0.0.1", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.place() == distributed.Place(3, 4, 1)
    assert (args.world_size, args.process_index, args.local_process_index) == (4, 3, 1)
    assert (args.should_save, args.should_log, args.get_process_log_level()) == (False, False, "warning")


def test_pieces_of_gradients() -> None:
    gradients = [torch.zeros(size) for size in (3, 3, 9, 1)]
    assert [[len(g) for g in piece] for piece in _pieces(gradients, 20)] == [[3, 3], [9], [1]]
    mixed = [torch.zeros(1), torch.zeros(1, dtype=torch.float64)]
    assert [len(piece) for piece in _pieces(mixed, 100)] == [1, 1]
    assert list(_pieces([], 5)) == []


class Batches:
    """A caller's own batches."""

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Any:
        return iter([{"n": n} for n in range(5)])


def test_own_loaders_are_shared_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from formers.training import data

    assert [batch["n"] for batch in data.batches(Batches(), start=2)] == [2, 3, 4]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert [batch.get("n") for batch in data.batches(Batches())] == [1, 3, None]
    assert data.length(Batches(), arguments(tmp_path, num_train_epochs=2)) == (6, 2, 3)
