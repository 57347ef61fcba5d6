"""Checkpoints: folders of safetensors and JSON that appear whole or not at all.

A checkpoint is written into a hidden folder beside its place and renamed when all of it is on the disk; one that goes
is renamed before it is deleted. So a process may be killed at any time: folders named `checkpoint-<step>` are complete.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formers.errors import CheckpointError, InputError
from formers.hub.atomic import write_json, write_text
from formers.training.arguments import TrainingArguments
from formers.training.callbacks import TrainerState

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

logger = logging.getLogger("formers")
STATE = "trainer_state.json"
ARGUMENTS = "training_args.json"
_OPTIMIZER = "optimizer"
_SCHEDULER = "scheduler.json"
_RNG = "rng_state_{}.json"
_NAME = re.compile(r"checkpoint-(\d+)")
_HIDDEN = re.compile(r"\.checkpoint-\d+\..*\.tmp")


def save(
    output_dir: str | os.PathLike[str],
    model: nn.Module,
    state: TrainerState,
    args: TrainingArguments,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    processing_class: Any = None,
    rng: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write `checkpoint-<step>` and return its path. Without an optimizer it holds the model and the state alone.

    rng: the random numbers of every process, of this one if left out.
    """
    folder = Path(output_dir) / f"checkpoint-{state.global_step}"
    with _staged(folder) as draft:
        save_model(model, draft, args, processing_class)
        state.save_to_json(draft / STATE)
        if optimizer is not None:
            _save_optimizer(optimizer, draft)
            write_json(draft / _SCHEDULER, None if scheduler is None else scheduler.state_dict())
            for rank, numbers in enumerate(rng or [rng_state()]):
                write_json(draft / _RNG.format(rank), numbers)
    return folder


def save_model(
    model: nn.Module, folder: str | os.PathLike[str], args: TrainingArguments, processing_class: Any = None
) -> None:
    """Write a model's weights, its configuration if it has one, its tokenizer's files and the arguments."""
    from formers.hub.weights import save_weights

    write: Any = getattr(model, "save_pretrained", None)
    if write is not None:
        write(folder)
    else:
        save_weights(_without_shared(model.state_dict()), folder)
    if processing_class is not None:
        processing_class.save_pretrained(folder)
    write_text(Path(folder) / ARGUMENTS, args.to_json_string() + "\n")


def load_model(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Give the model the weights of a checkpoint or of any folder of weights; adapters those of their files."""
    from formers.hub.files import resolve
    from formers.hub.weights import Checkpoint

    read: Any = getattr(model, "load_pretrained", None)
    if read is not None:
        # A model with adapters writes and reads these alone.
        read(folder)
        return
    weights = Checkpoint.open(resolve(folder))
    problem = model.load_state_dict({key: weights.tensor(key) for key in weights.keys()}, strict=False)  # noqa: SIM118
    kept = _without_shared(model.state_dict())
    missing = [name for name in problem.missing_keys if name in kept]
    if missing or problem.unexpected_keys:
        raise CheckpointError(
            f"{folder} does not fit the model: missing {missing[:5]}, without use {problem.unexpected_keys[:5]}.",
            "Make the model as it was when the checkpoint was saved.",
        )


def load_state(folder: str | os.PathLike[str]) -> TrainerState:
    """How far the training had come."""
    try:
        return TrainerState.load_from_json(Path(folder) / STATE)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is no checkpoint of a training: it has no {STATE}.",
            "Pass one of the checkpoint-… folders, or True for the last one.",
        ) from error


def load_progress(
    folder: str | os.PathLike[str],
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Bring optimizer, scheduler and this process's random numbers to where they were at the checkpoint."""
    folder = Path(folder)
    processes = len(list(folder.glob(_RNG.format("*"))))
    if processes not in (0, world_size):
        raise CheckpointError(
            f"{folder} was saved by {processes} processes; these are {world_size}.",
            f"Start {processes} processes, so that the data goes on where it stopped.",
        )
    if not processes:
        raise CheckpointError(
            f"{folder} holds the model alone (save_only_model=True).",
            "Load the model from it with from_pretrained, and start a new training.",
        )
    _load_optimizer(optimizer, folder)
    saved = _read_json(folder / _SCHEDULER)
    if scheduler is not None and saved is not None:
        scheduler.load_state_dict(_like(saved, scheduler.state_dict()))
    set_rng_state(_read_json(folder / _RNG.format(rank)))


def check_finite(what: str, value: float, state: TrainerState, args: TrainingArguments) -> None:
    """Raise for a loss or a gradient that would break the weights in the next step."""
    if math.isfinite(value):
        return
    last = get_last_checkpoint(str(args.output_dir))
    raise InputError(
        f"The {what} is {value} at step {state.global_step + 1}: training stopped.",
        "Lower learning_rate, set max_grad_norm or look for broken examples. "
        + (f"The last checkpoint is {last}." if last else "No checkpoint was saved before."),
    )


def check_saveable(args: TrainingArguments, scheduler: Any) -> None:
    """Raise before training if a scheduler's state is to be saved, and cannot be as JSON."""
    if args.save_strategy == "no" or args.save_only_model:
        return
    try:
        json.dumps(None if scheduler is None else scheduler.state_dict())
    except TypeError as error:
        raise InputError(
            f"The state of {type(scheduler).__name__} cannot be saved as JSON: {error}.",
            'Give it a state_dict() of numbers and texts, or set save_only_model=True or save_strategy="no".',
        ) from error


# -- which checkpoints there are -----------------------------------------------------------------------------------


def checkpoints(output_dir: str | os.PathLike[str]) -> list[Path]:
    """All complete checkpoints: those of earlier trainings first, then by step."""
    found = []
    for path in _children(Path(output_dir)):
        match = _NAME.fullmatch(path.name)
        if match and (path / STATE).is_file():
            found.append((load_state(path).started, int(match[1]), path))
    return [path for _, _, path in sorted(found)]


def get_last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """The path of the newest checkpoint in a folder, None if there is none."""
    found = checkpoints(folder)
    return str(found[-1]) if found else None


def to_resume(choice: str | os.PathLike[str] | bool | None, output_dir: str | os.PathLike[str]) -> Path | None:
    """The checkpoint that `resume_from_checkpoint` means: a path, True for the last one, None for a new start."""
    if choice is None or choice is False:
        return None
    if choice is not True:
        folder = Path(choice)
        if not folder.is_dir():
            raise InputError(
                f"resume_from_checkpoint={str(choice)!r} is no folder.", "Pass a checkpoint's folder, or True."
            )
        return folder
    last = get_last_checkpoint(output_dir)
    if last is None:
        raise InputError(
            f"There is no checkpoint in {str(output_dir)!r} to resume from.", "Leave resume_from_checkpoint out."
        )
    return Path(last)


def rotate(output_dir: str | os.PathLike[str], limit: int | None, state: TrainerState) -> None:
    """Delete checkpoints of this training but the best and the last: without `limit` all others, with 0 none.

    A `limit` keeps that many in all: the best, and the newest. Those of other trainings are never touched.
    """
    if limit is not None and limit <= 0:
        return
    found = [path for path in checkpoints(output_dir) if load_state(path).started == state.started]
    marked = state.best_model_checkpoint
    keep = {path for path in found if marked is not None and path.resolve() == Path(marked).resolve()}
    keep |= set(found[-1:])
    for path in reversed(found):
        if len(keep) < (limit or 1):
            keep.add(path)
    for path in found:
        if path not in keep:
            doomed = _hidden(path)
            os.rename(path, doomed)
            shutil.rmtree(doomed)


def best(output_dir: str | os.PathLike[str], state: TrainerState) -> str | None:
    """The path of the best checkpoint when the current step's is saved; None if none of the best steps was saved."""
    folder = Path(output_dir) / f"checkpoint-{state.best_global_step}"
    now = state.best_global_step == state.global_step
    return str(folder) if now or folder.is_dir() else state.best_model_checkpoint


def load_best(model: nn.Module, state: TrainerState) -> None:
    """Give the model the weights of the best checkpoint."""
    if state.best_model_checkpoint is None or not Path(state.best_model_checkpoint).is_dir():
        logger.warning("There is no checkpoint of a best model: the last weights stay.")
        return
    load_model(model, state.best_model_checkpoint)


def clean(args: TrainingArguments) -> None:
    """Delete what killed processes left half-written in the output folder."""
    for path in _children(Path(str(args.output_dir))) if args.should_save else ():
        if _HIDDEN.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A hidden folder to write to, which becomes `folder` when the block ends and vanishes when it raises."""
    from safetensors import SafetensorError

    draft = _hidden(folder)
    try:
        draft.mkdir(parents=True)
        yield draft
        for path in [*draft.rglob("*"), draft]:
            _flush(path)
        old = _hidden(folder)
        if folder.exists():
            os.rename(folder, old)
        os.rename(draft, folder)
        _flush(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} could not be saved: {error}.",
            "Free space or check the rights, then pass resume_from_checkpoint=True; older checkpoints are whole.",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _flush(path: Path) -> None:
    # Without this a power cut can leave the new name on empty files.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- optimizers ----------------------------------------------------------------------------------------------------


def _save_optimizer(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                values.setdefault(str(index), {})[name] = value
    groups = [
        {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in group.items()}
        for group in state["param_groups"]
    ]
    save_file(tensors, folder / f"{_OPTIMIZER}.safetensors")
    write_json(folder / f"{_OPTIMIZER}.json", {"param_groups": groups, "state": values})


def _load_optimizer(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    from safetensors.torch import load_file

    saved = _read_json(folder / f"{_OPTIMIZER}.json")
    state: dict[int, dict[str, Any]] = {int(index): dict(slots) for index, slots in saved["state"].items()}
    for key, tensor in load_file(folder / f"{_OPTIMIZER}.safetensors").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    own = optimizer.state_dict()["param_groups"]
    if [len(group["params"]) for group in own] != [len(group["params"]) for group in saved["param_groups"]]:
        raise CheckpointError(
            f"The optimizer of {folder} has other parameters.",
            "Train the same parameters with the same optimizer as when the checkpoint was saved.",
        )
    groups = [_like(group, now) for group, now in zip(saved["param_groups"], own, strict=True)]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _like(value: Any, model: Any) -> Any:
    """A value that JSON gave back with the tuples and the non-text keys that `model` has in its places."""
    if isinstance(model, tuple) and isinstance(value, list):
        return tuple(_like(v, m) for v, m in zip(value, model, strict=True))
    if isinstance(model, Mapping) and isinstance(value, dict):
        own: dict[str, Any] = {str(key): key for key in model}
        return {own.get(k, k): _like(v, model.get(own.get(k, k))) for k, v in value.items()}
    return value


# -- random numbers ------------------------------------------------------------------------------------------------


def rng_state() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's random numbers, as JSON takes them."""
    import numpy
    import torch

    kind, words, position, has_gauss, gauss = numpy.random.get_state(legacy=True)
    version, numbers, pending = random.getstate()
    return {
        "python": [version, list(numbers), pending],
        "numpy": [kind, [int(word) for word in words], position, has_gauss, gauss],
        "torch": _text(torch.get_rng_state()),
        "cuda": [_text(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Bring the random numbers to a state that `rng_state` gave."""
    import numpy
    import torch

    version, numbers, pending = state["python"]
    random.setstate((version, tuple(numbers), pending))
    kind, words, *rest = state["numpy"]
    numpy.random.set_state((kind, numpy.array(words, dtype=numpy.uint32), *rest))
    torch.set_rng_state(_tensor(state["torch"]))
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([_tensor(text) for text in state["cuda"]])


def _text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _tensor(text: str) -> Tensor:
    import torch

    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def _without_shared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One name for each piece of memory."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    kept = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if not tensor.numel() or place not in seen:
            kept[name] = tensor
            seen.add(place)
    return kept


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.", "Continue from another checkpoint.") from error
