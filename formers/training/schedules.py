"""Learning rate schedules: what multiplies the learning rate at each step, under the reference's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from inspect import Parameter, signature
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from formers.errors import InputError, UnsupportedError


class SchedulerType(str, Enum):
    """The names that `get_scheduler` takes."""

    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_RESTARTS = "cosine_with_restarts"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"
    REDUCE_ON_PLATEAU = "reduce_lr_on_plateau"
    COSINE_WITH_MIN_LR = "cosine_with_min_lr"
    COSINE_WARMUP_WITH_MIN_LR = "cosine_warmup_with_min_lr"
    WARMUP_STABLE_DECAY = "warmup_stable_decay"


Factor = Callable[[int], float]


def _warmed_up(warmup: int, after: Factor) -> Factor:
    """A straight rise from 0 to 1 over `warmup` steps, then `after` of the step."""
    return lambda step: step / max(1, warmup) if step < warmup else after(step)


def _progress(step: int, warmup: int, total: int) -> float:
    return (step - warmup) / max(1, total - warmup)


def _half_wave(progress: float, cycles: float = 0.5) -> float:
    """A cosine from 1; with half a cycle it is 0 when `progress` is 1."""
    return 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * progress))


def get_constant_schedule(optimizer: Optimizer, last_epoch: int = -1) -> LambdaLR:
    """The learning rate as it is."""
    return LambdaLR(optimizer, lambda _: 1.0, last_epoch)


def get_constant_schedule_with_warmup(optimizer: Optimizer, num_warmup_steps: int, last_epoch: int = -1) -> LambdaLR:
    """A straight rise, then the learning rate as it is."""
    return LambdaLR(optimizer, _warmed_up(num_warmup_steps, lambda _: 1.0), last_epoch)


def get_linear_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, last_epoch: int = -1
) -> LambdaLR:
    """A straight rise, then a straight fall to 0 at the last step."""

    def factor(step: int) -> float:
        return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))

    return LambdaLR(optimizer, _warmed_up(num_warmup_steps, factor), last_epoch)


def get_cosine_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5, last_epoch: int = -1
) -> LambdaLR:
    """A straight rise, then `num_cycles` waves of a cosine (Loshchilov and Hutter, 2016), half a wave ending at 0."""

    def factor(step: int) -> float:
        return max(0.0, _half_wave(_progress(step, num_warmup_steps, num_training_steps), num_cycles))

    return LambdaLR(optimizer, _warmed_up(num_warmup_steps, factor), last_epoch)


def get_cosine_with_hard_restarts_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, num_cycles: int = 1, last_epoch: int = -1
) -> LambdaLR:
    """A straight rise, then `num_cycles` half waves, each from the full learning rate to 0."""

    def factor(step: int) -> float:
        progress = _progress(step, num_warmup_steps, num_training_steps)
        return 0.0 if progress >= 1.0 else _half_wave(num_cycles * progress % 1.0)

    return LambdaLR(optimizer, _warmed_up(num_warmup_steps, factor), last_epoch)


def get_polynomial_decay_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    lr_end: float = 1e-7,
    power: float = 1.0,
    last_epoch: int = -1,
) -> LambdaLR:
    """A straight rise, then a fall to the learning rate `lr_end` that follows a power of the steps left."""
    peak: float = optimizer.defaults["lr"]
    if peak <= lr_end:
        raise InputError(f"lr_end is {lr_end}, the learning rate {peak}.", "Pass a smaller lr_end.")

    def factor(step: int) -> float:
        if step > num_training_steps:
            return lr_end / peak
        left = 1.0 - (step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps)
        return float(((peak - lr_end) * left**power + lr_end) / peak)

    return LambdaLR(optimizer, _warmed_up(num_warmup_steps, factor), last_epoch)


def get_inverse_sqrt_schedule(
    optimizer: Optimizer, num_warmup_steps: int, timescale: int | None = None, last_epoch: int = -1
) -> LambdaLR:
    """A straight rise, then a fall with the root of the steps in units of `timescale` (the warm-up, or 10,000)."""
    scale = num_warmup_steps or 10_000 if timescale is None else timescale

    def factor(step: int) -> float:
        return 1.0 / math.sqrt((step + scale - num_warmup_steps) / scale)

    return LambdaLR(optimizer, _warmed_up(num_warmup_steps, factor), last_epoch)


def _lowest(optimizer: Optimizer, min_lr: float | None, min_lr_rate: float | None) -> float:
    if (min_lr is None) == (min_lr_rate is None):
        got = "neither" if min_lr is None else "both"
        raise InputError(f"Got {got} of min_lr and min_lr_rate.", "Pass one, as lr_scheduler_kwargs={'min_lr_rate': …}")
    return float(min_lr / optimizer.defaults["lr"]) if min_lr is not None else float(min_lr_rate or 0.0)


def get_cosine_with_min_lr_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> LambdaLR:
    """The cosine schedule, ending at the learning rate `min_lr`, or at `min_lr_rate` times the full one."""
    low = _lowest(optimizer, min_lr, min_lr_rate)

    def factor(step: int) -> float:
        wave = _half_wave(_progress(step, num_warmup_steps, num_training_steps), num_cycles)
        return max(0.0, wave * (1.0 - low) + low)

    return LambdaLR(optimizer, _warmed_up(num_warmup_steps, factor), last_epoch)


def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> LambdaLR:
    """As above, one step ahead: the rise starts at `warmup_lr_rate`, or at one step's share of it."""
    low = _lowest(optimizer, min_lr, min_lr_rate)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            if warmup_lr_rate is None:
                return (step + 1.0) / max(1, num_warmup_steps)
            return warmup_lr_rate + (1.0 - warmup_lr_rate) * step / max(1, num_warmup_steps - 1)
        wave = _half_wave(_progress(step + 1, num_warmup_steps, num_training_steps), num_cycles)
        return max(0.0, wave * (1.0 - low) + low)

    return LambdaLR(optimizer, factor, last_epoch)


def get_wsd_schedule(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
) -> LambdaLR:
    """Warm-up, a stable stretch, then decay to `min_lr_ratio` (Hu et al., 2024). Types: "linear", "cosine", "1-sqrt".

    The stable stretch is `num_stable_steps`, or what warm-up and decay leave of `num_training_steps`.
    """
    falls: dict[str, Callable[[float], float]] = {
        "linear": lambda progress: 1.0 - progress,
        "cosine": lambda progress: _half_wave(progress, num_cycles),
        "1-sqrt": lambda progress: 1.0 - math.sqrt(progress),
    }
    rises: dict[str, Callable[[float], float]] = {
        "linear": lambda progress: progress,
        "cosine": lambda progress: 0.5 * (1.0 - math.cos(math.pi * progress)),
        "1-sqrt": lambda progress: 1.0 - math.sqrt(1.0 - progress),
    }
    for name, kind in (("warmup_type", warmup_type), ("decay_type", decay_type)):
        if kind not in falls:
            raise InputError(f"{name} is {kind!r}.", f"Use one of {', '.join(map(repr, falls))}.")
    if num_stable_steps is None:
        if num_training_steps is None:
            raise InputError(
                "Got neither num_training_steps nor num_stable_steps.", "Pass how many steps the training has."
            )
        num_stable_steps = num_training_steps - num_warmup_steps - num_decay_steps
    decay_from = num_warmup_steps + num_stable_steps
    rise, fall = rises[warmup_type], falls[decay_type]

    def factor(step: int) -> float:
        if num_warmup_steps <= step < decay_from:
            return 1.0
        if step >= max(num_warmup_steps, decay_from) + num_decay_steps:
            return min_lr_ratio
        shape = (
            rise(step / max(1, num_warmup_steps))
            if step < num_warmup_steps
            else fall((step - decay_from) / max(1, num_decay_steps))
        )
        return max(0.0, shape * (1.0 - min_lr_ratio) + min_lr_ratio)

    return LambdaLR(optimizer, factor, last_epoch)


def get_reduce_on_plateau_schedule(optimizer: Optimizer, **settings: Any) -> ReduceLROnPlateau:
    """Torch's ReduceLROnPlateau, whose arguments it takes: lower when a metric stops improving."""
    return ReduceLROnPlateau(optimizer, **settings)


_SCHEDULES: dict[SchedulerType, Callable[..., LRScheduler]] = {
    SchedulerType.LINEAR: get_linear_schedule_with_warmup,
    SchedulerType.COSINE: get_cosine_schedule_with_warmup,
    SchedulerType.COSINE_WITH_RESTARTS: get_cosine_with_hard_restarts_schedule_with_warmup,
    SchedulerType.POLYNOMIAL: get_polynomial_decay_schedule_with_warmup,
    SchedulerType.CONSTANT: get_constant_schedule,
    SchedulerType.CONSTANT_WITH_WARMUP: get_constant_schedule_with_warmup,
    SchedulerType.INVERSE_SQRT: get_inverse_sqrt_schedule,
    SchedulerType.REDUCE_ON_PLATEAU: ReduceLROnPlateau,
    SchedulerType.COSINE_WITH_MIN_LR: get_cosine_with_min_lr_schedule_with_warmup,
    SchedulerType.COSINE_WARMUP_WITH_MIN_LR: get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    SchedulerType.WARMUP_STABLE_DECAY: get_wsd_schedule,
}


def scheduler_type(name: str | SchedulerType) -> SchedulerType:
    """The schedule of a name, or an error that lists the names."""
    value = getattr(name, "value", name)
    if value == "greedy":
        raise UnsupportedError("There is no schedule 'greedy'.", "Use 'reduce_lr_on_plateau', which watches a metric.")
    try:
        return SchedulerType(value)
    except ValueError:
        names = ", ".join(repr(kind.value) for kind in SchedulerType)
        raise InputError(f"There is no schedule {value!r}.", f"Use one of {names}.") from None


def get_scheduler(
    name: str | SchedulerType,
    optimizer: Optimizer,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> LRScheduler:
    """The schedule of a name, with what it needs of the steps; `scheduler_specific_kwargs` are its own arguments."""
    kind = scheduler_type(name)
    make = _SCHEDULES[kind]
    steps = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    parameters = {key: value for key, value in signature(make).parameters.items() if key != "optimizer"}
    options = {key: value for key, value in steps.items() if key in parameters and value is not None}
    options |= scheduler_specific_kwargs or {}
    unknown = sorted(options.keys() - parameters.keys())
    own = [key for key in parameters if key not in (*steps, "last_epoch")]
    if unknown:
        raise InputError(f"The schedule {kind.value!r} takes no {', '.join(unknown)}.", f"It takes {own or 'nothing'}.")
    missing = [key for key, value in parameters.items() if value.default is Parameter.empty and key not in options]
    if missing:
        where = "lr_scheduler_kwargs" if set(missing) & set(own) else "get_scheduler"
        raise InputError(f"The schedule {kind.value!r} needs {', '.join(missing)}.", f"Pass it to {where}.")
    return make(optimizer, **options)
