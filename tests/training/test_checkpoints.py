"""Checkpoints: whole or not at all, without pickle, the best and the last."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formers import AutoModelForSequenceClassification
from formers.errors import CheckpointError, InputError
from formers.training import checkpoints
from formers.training.arguments import TrainingArguments
from formers.training.callbacks import TrainerState
from formers.training.optimization import get_scheduler, make_optimizer
from tests.training.small import arguments, model, same_weights


def trained(name: str, steps: int = 3) -> tuple[Any, torch.optim.Optimizer, Any]:
    """A model that took steps with an optimizer, and its schedule."""
    made = model()
    optimizer = make_optimizer(made, name, learning_rate=1e-2)
    scheduler = get_scheduler("cosine", optimizer, 2, 10)
    for step in range(steps):
        step_once(made, optimizer, scheduler, step)
    return made, optimizer, scheduler


def step_once(made: Any, optimizer: torch.optim.Optimizer, scheduler: Any, step: int) -> None:
    made(torch.tensor([[1, 2 + step, 3]]), labels=torch.tensor([step % 2])).loss.backward()
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()


def save(folder: Path, step: int, **given: Any) -> Path:
    state = given.pop("state", None) or TrainerState(global_step=step)
    return checkpoints.save(folder, given.pop("model", None) or model(), state, arguments(folder), **given)


@pytest.mark.parametrize("name", ["adamw_torch_fused", "adafactor", "lion", "sgd", "adagrad", "rmsprop"])
def test_optimizer_and_schedule_go_on_bit_by_bit(tmp_path: Path, name: str) -> None:
    made, optimizer, scheduler = trained(name)
    folder = save(tmp_path, 3, model=made, optimizer=optimizer, scheduler=scheduler)
    again, other, schedule = trained(name, steps=0)
    checkpoints.load_model(again, folder)
    same_weights(again, made)
    checkpoints.load_progress(folder, other, schedule)
    assert schedule.get_last_lr() == scheduler.get_last_lr()
    step_once(made, optimizer, scheduler, 3)
    step_once(again, other, schedule, 3)
    same_weights(again, made)
    assert schedule.get_last_lr() == scheduler.get_last_lr()


def test_random_numbers_go_on() -> None:
    state = json.loads(json.dumps(checkpoints.rng_state()))
    expected = [random.random(), np.random.random(), float(torch.rand(1)), random.gauss(0, 1), np.random.normal()]
    checkpoints.set_rng_state(state)
    assert [
        random.random(),
        np.random.random(),
        float(torch.rand(1)),
        random.gauss(0, 1),
        np.random.normal(),
    ] == expected


def test_there_is_no_pickle(tmp_path: Path) -> None:
    made, optimizer, scheduler = trained("adamw_torch_fused")
    folder = save(tmp_path, 3, model=made, optimizer=optimizer, scheduler=scheduler)
    names = {path.name for path in folder.iterdir()}
    assert {Path(name).suffix for name in names} == {".json", ".safetensors"}
    assert {"config.json", "model.safetensors", "optimizer.safetensors", "trainer_state.json"} <= names
    assert json.loads((folder / "training_args.json").read_text())["learning_rate"] == 1e-3


def test_a_checkpoint_is_a_model(tmp_path: Path) -> None:
    made = model()
    same_weights(AutoModelForSequenceClassification.from_pretrained(save(tmp_path, 1, model=made)), made)


def test_a_plain_module(tmp_path: Path) -> None:
    made, again = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    checkpoints.load_model(again, save(tmp_path, 1, model=made))
    same_weights(again, made)


def test_shared_weights_of_a_plain_module(tmp_path: Path) -> None:
    def tied() -> torch.nn.Module:
        made = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
        made[1].weight = made[0].weight
        return made

    made, again = tied(), tied()
    checkpoints.load_model(again, save(tmp_path, 1, model=made))
    same_weights(again, made)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, model=torch.nn.Linear(3, 2))
    with pytest.raises(CheckpointError, match=r"missing \['0.weight'.*without use \['bias"):
        checkpoints.load_model(torch.nn.Sequential(torch.nn.Linear(3, 2)), folder)


class Failing(torch.nn.Linear):
    """Writes some of its files, and fails."""

    def save_pretrained(self, folder: Path) -> None:
        (Path(folder) / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    first = save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"No space left on device.*resume_from_checkpoint"):
        save(tmp_path, 2, model=Failing(2, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    with pytest.raises(CheckpointError):
        save(tmp_path, 1, model=Failing(2, 2))
    checkpoints.load_model(model(), first)


def test_what_killed_processes_left_is_no_checkpoint(tmp_path: Path) -> None:
    left = tmp_path / ".checkpoint-7.1-abcd.tmp"
    left.mkdir()
    (left / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-9").mkdir()
    assert checkpoints.get_last_checkpoint(tmp_path) is None
    save(tmp_path, 5)
    checkpoints.clean(arguments(tmp_path))
    assert not left.exists()
    assert checkpoints.get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")


def test_saving_again_replaces(tmp_path: Path) -> None:
    save(tmp_path, 1)
    other = model()
    torch.nn.init.ones_(other.head.output.weight)
    folder = save(tmp_path, 1, model=other)
    again = model()
    checkpoints.load_model(again, folder)
    same_weights(again, other)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [12]),
        (None, 4, [4, 12]),
        (None, 12, [12]),
        (0, 4, [2, 4, 8, 12]),
        (1, 4, [4, 12]),
        (2, 4, [4, 12]),
        (3, 2, [2, 8, 12]),
        (2, None, [8, 12]),
        (9, None, [2, 4, 8, 12]),
    ],
)
def test_the_best_and_the_last_stay(tmp_path: Path, limit: int | None, best: int | None, kept: list[int]) -> None:
    for step in (2, 4, 8, 12):
        save(tmp_path, step)
    marked = None if best is None else str(tmp_path / f"checkpoint-{best}")
    checkpoints.rotate(tmp_path, limit, TrainerState(best_model_checkpoint=marked))
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in kept]
    assert len(list(tmp_path.iterdir())) == len(kept)


def test_checkpoints_of_another_training_stay_and_are_older(tmp_path: Path) -> None:
    save(tmp_path, 100, state=TrainerState(global_step=100, started=1.0))
    for step in (5, 6):
        save(tmp_path, step, state=TrainerState(global_step=step, started=2.0))
    assert checkpoints.get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-6")
    checkpoints.rotate(tmp_path, None, TrainerState(started=2.0))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-100", "checkpoint-6"}


def test_what_to_resume(tmp_path: Path) -> None:
    assert checkpoints.to_resume(None, tmp_path) is None
    assert checkpoints.to_resume(False, tmp_path) is None
    with pytest.raises(InputError, match="no checkpoint in"):
        checkpoints.to_resume(True, tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        checkpoints.to_resume(str(tmp_path / "checkpoint-1"), tmp_path)
    folder = save(tmp_path, 1)
    assert checkpoints.to_resume(True, tmp_path) == folder
    assert checkpoints.to_resume(str(folder), "elsewhere") == folder
    with pytest.raises(CheckpointError, match=r"no trainer_state.json"):
        checkpoints.load_state(tmp_path)


def test_a_checkpoint_of_the_model_alone(tmp_path: Path) -> None:
    made, optimizer, scheduler = trained("sgd")
    with pytest.raises(CheckpointError, match="save_only_model"):
        checkpoints.load_progress(save(tmp_path, 1, model=made), optimizer, scheduler)


def test_an_optimizer_of_other_parameters(tmp_path: Path) -> None:
    made, optimizer, scheduler = trained("sgd")
    folder = save(tmp_path, 1, model=made, optimizer=optimizer, scheduler=scheduler)
    other = torch.optim.SGD(made.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match="other parameters"):
        checkpoints.load_progress(folder, other, None)


def test_a_schedule_that_json_cannot_hold() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)

    class Odd(torch.optim.lr_scheduler.ConstantLR):
        def state_dict(self) -> dict[str, Any]:
            return {"set": {1, 2}}

    with pytest.raises(InputError, match="Odd cannot be saved as JSON"):
        checkpoints.check_saveable(TrainingArguments("out"), Odd(optimizer))


def test_damaged_progress(tmp_path: Path) -> None:
    made, optimizer, scheduler = trained("sgd")
    folder = save(tmp_path, 1, model=made, optimizer=optimizer, scheduler=scheduler)
    (folder / "scheduler.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"scheduler.json cannot be read"):
        checkpoints.load_progress(folder, optimizer, scheduler)
