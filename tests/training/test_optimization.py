"""Schedules, optimisers and parameter groups against the reference."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import optimization as reference
from transformers.trainer import Trainer

from formers.errors import InputError, UnsupportedError
from formers.training import optimization
from formers.training.optimization import (
    Adafactor,
    AdafactorSchedule,
    Lion,
    decays,
    get_scheduler,
    make_optimizer,
    optimizer_name,
    parameter_groups,
)
from tests.parity.pairs import families, pair

SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {}),
    ("polynomial", {"power": 2.5, "lr_end": 1e-4}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 33}),
    ("cosine_with_min_lr", {"min_lr": 1e-4}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.2, "num_cycles": 1.0}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr": 2e-4, "warmup_lr_rate": 0.3}),
    ("warmup_stable_decay", {"num_decay_steps": 9}),
    ("warmup_stable_decay", {"num_decay_steps": 7, "num_stable_steps": 11, "min_lr_ratio": 0.1}),
    *(
        ("warmup_stable_decay", {"num_decay_steps": 9, "warmup_type": rise, "decay_type": fall, "min_lr_ratio": 0.05})
        for rise, fall in [("cosine", "linear"), ("1-sqrt", "1-sqrt"), ("linear", "cosine")]
    ),
]


def sgd(rates: tuple[float, ...] = (1e-3, 5e-2)) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1e-3)


def rates(module: Any, name: str, steps: int, **arguments: Any) -> list[list[float]]:
    optimizer = sgd()
    schedule = module.get_scheduler(name, optimizer, **arguments)
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("warmup", [0, 1, 6])
@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_learning_rates_at_every_step(name: str, options: dict[str, Any], warmup: int) -> None:
    arguments = {"num_warmup_steps": warmup, "num_training_steps": 30, "scheduler_specific_kwargs": options}
    ours, theirs = (rates(module, name, 36, **arguments) for module in (optimization, reference))
    assert ours == [pytest.approx(step, rel=1e-12, abs=1e-15) for step in theirs]


def test_a_schedule_continues_from_its_state() -> None:
    def make() -> tuple[Any, Any]:
        optimizer = sgd()
        return optimizer, get_scheduler("cosine", optimizer, 3, 20)

    whole = rates(optimization, "cosine", 20, num_warmup_steps=3, num_training_steps=20)
    optimizer, schedule = make()
    for _ in range(8):
        optimizer.step()
        schedule.step()
    resumed, second = make()
    resumed.load_state_dict(optimizer.state_dict())
    second.load_state_dict(schedule.state_dict())
    assert [group["lr"] for group in resumed.param_groups] == whole[8]
    resumed.step()
    second.step()
    assert [group["lr"] for group in resumed.param_groups] == whole[9]


def test_plateau_watches_a_metric() -> None:
    optimizer = sgd((1.0,))
    schedule: Any = get_scheduler(
        "reduce_lr_on_plateau", optimizer, scheduler_specific_kwargs={"patience": 1, "factor": 0.5}
    )
    for loss in (1.0, 1.0, 1.0):
        schedule.step(loss)
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("linear", None, 9), InputError, r"'linear' needs num_warmup_steps.*get_scheduler"),
        (("linear", 1, None), InputError, "needs num_training_steps"),
        (("warmup_stable_decay", 1, 9), InputError, "needs num_decay_steps.*lr_scheduler_kwargs"),
        (("warmup_stable_decay", 1, None, {"num_decay_steps": 2}), InputError, "neither num_training_steps"),
        (("warmup_stable_decay", 1, 9, {"num_decay_steps": 2, "decay_type": "x"}), InputError, "decay_type is 'x'"),
        (("linear", 1, 9, {"num_cycles": 2}), InputError, r"'linear' takes no num_cycles.*nothing"),
        (("cosine", 1, 9, {"cycles": 2}), InputError, r"takes no cycles.*num_cycles"),
        (("cosine_with_min_lr", 1, 9), InputError, "neither of min_lr and min_lr_rate"),
        (("cosine_with_min_lr", 1, 9, {"min_lr": 1.0, "min_lr_rate": 0.1}), InputError, "both of min_lr"),
        (("polynomial", 1, 9, {"lr_end": 1.0}), InputError, "lr_end is 1.0"),
        (("greedy", 1, 9), UnsupportedError, "reduce_lr_on_plateau"),
        (("triangle", 1, 9), InputError, "no schedule 'triangle'.*'linear', 'cosine'"),
    ],
)
def test_schedules_that_cannot_be(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    name, *rest = arguments
    with pytest.raises(error, match=message):
        get_scheduler(name, sgd(), *rest)


# -- optimisers --------------------------------------------------------------------------------------------------------


def trained(make: Any, dtype: torch.dtype = torch.float32, steps: int = 5, schedule: Any = None) -> list[torch.Tensor]:
    """Parameters of several shapes after some steps on fixed gradients, and the rates that a schedule shows."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (5,), (2, 3, 4), ()]
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    optimizer = make(parameters)
    shown = schedule and schedule(optimizer)
    rates = []
    for _ in range(steps):
        for parameter in parameters[:3] if _ == 1 else parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype)
        optimizer.step()
        if shown:
            shown.step()
            rates.append(torch.tensor(shown.get_last_lr()))
        optimizer.zero_grad() if not shown else None
    return [*(parameter.detach() for parameter in parameters), *rates]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"warmup_init": True},
        {"lr": 1e-2, "relative_step": False, "scale_parameter": False},
        {"lr": 1e-2, "relative_step": False, "weight_decay": 0.1, "beta1": 0.9},
        {"clip_threshold": 0.5, "decay_rate": -0.5, "eps": (1e-20, 1e-2), "weight_decay": 0.01},
    ],
)
def test_adafactor(options: dict[str, Any], dtype: torch.dtype) -> None:
    ours, theirs = (
        trained(lambda params, make=make: make(params, **options), dtype) for make in (Adafactor, reference.Adafactor)
    )
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)


def test_adafactor_schedule_shows_its_steps() -> None:
    ours, theirs = (
        trained(module.Adafactor, schedule=module.AdafactorSchedule, steps=3) for module in (optimization, reference)
    )
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)
    start = AdafactorSchedule(Adafactor([torch.nn.Parameter(torch.zeros(1))]), initial_lr=0.25)
    assert start.get_last_lr() == [0.25]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 1.0}, "both lr and relative_step"),
        ({"relative_step": False}, "got no lr"),
        ({"lr": 1.0, "relative_step": False, "warmup_init": True}, "warmup_init=True is a part"),
    ],
)
def test_adafactor_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Adafactor([torch.nn.Parameter(torch.zeros(1))], **options)


def test_lion_is_the_published_rule() -> None:
    """Algorithm 2 of Chen et al., 2023, spelled out."""
    rate, (first, second), decay = 0.01, (0.8, 0.9), 0.3
    generator = torch.Generator().manual_seed(1)
    parameter = torch.nn.Parameter(torch.randn(6, generator=generator))
    expected, momentum = parameter.detach().clone(), torch.zeros(6)
    optimizer = Lion([parameter], lr=rate, betas=(first, second), weight_decay=decay)
    for _ in range(5):
        gradient = torch.randn(6, generator=generator)
        parameter.grad = gradient
        update = first * momentum + (1 - first) * gradient
        expected = expected - rate * (update.sign() + decay * expected)
        momentum = second * momentum + (1 - second) * gradient
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), expected)
    with pytest.raises(InputError, match="betas"):
        Lion([parameter], betas=(1.0, 0.9))


# -- groups and names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", families())
def test_the_reference_decays_the_same_parameters(model_type: str) -> None:
    models = pair(model_type, "ForMaskedLM")
    names = Trainer.get_decay_parameter_names(SimpleNamespace(), models.reference)
    values = dict(models.reference.named_parameters())
    theirs = sorted(values[name].numel() for name in names if name in values)
    own = dict(models.ours.named_parameters())
    assert sum(own[name].numel() for name in decays(models.ours)) == sum(theirs)
    decayed, other = parameter_groups(models.ours, 0.1)
    assert (decayed["weight_decay"], other["weight_decay"]) == (0.1, 0.0)
    assert sum(p.numel() for p in decayed["params"]) == sum(theirs)
    assert len(decayed["params"]) + len(other["params"]) == len(own)


def test_frozen_parameters_are_left_out() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    model[1].requires_grad_(False)
    decayed, other = parameter_groups(model, 0.1)
    assert [len(decayed["params"]), len(other["params"])] == [1, 1]
    with pytest.raises(InputError, match="nothing to train"):
        parameter_groups(model.requires_grad_(False), 0.1)


@pytest.mark.parametrize("name", ["adamw_torch", "adamw_torch_fused", "adamw_hf", "adafactor", "lion_32bit", "sgd"])
def test_optimizers_by_name_against_their_classes(name: str) -> None:
    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))

    settings = {"lr": 0.01, "weight_decay": 0.1}
    makers: dict[str, Any] = {
        "adamw": lambda params: torch.optim.AdamW(params, betas=(0.8, 0.9), eps=1e-6, **settings),
        "adafactor": lambda params: reference.Adafactor(params, scale_parameter=False, relative_step=False, **settings),
        "lion": lambda params: Lion(params, betas=(0.8, 0.9), **settings),
        "sgd": lambda params: torch.optim.SGD(params, **settings),
    }
    ours, other = model(), model()
    groups = [{"params": [other[0].weight]}, {"params": [other[0].bias, *other[1].parameters()], "weight_decay": 0.0}]
    optimizers = (
        make_optimizer(ours, name, learning_rate=0.01, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-6),
        makers[optimizer_name(name)](groups),
    )
    for step in range(4):
        for net, optimizer in zip((ours, other), optimizers, strict=True):
            net(torch.arange(6.0).view(2, 3) + step).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    for own, expected in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)


def test_arguments_of_an_optimizer() -> None:
    model = torch.nn.Linear(2, 2)
    sgd = make_optimizer(model, "sgd", optim_args="momentum=0.9, nesterov=True")
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"], sgd.defaults["lr"]) == (0.9, True, 5e-5)
    adamw = make_optimizer(model, optim_args="betas=(0.7, 0.8), amsgrad=no")
    assert (adamw.defaults["betas"], adamw.defaults["amsgrad"], adamw.defaults["fused"]) == ((0.7, 0.8), False, True)
    own = make_optimizer(model, "adafactor", optim_args={"relative_step": True, "warmup_init": True})
    assert (own.defaults["lr"], own.defaults["warmup_init"]) == (None, True)
    assert make_optimizer(model, "rmsprop", optim_args="alpha=0.5,centered=true").defaults["alpha"] == 0.5
    assert make_optimizer(model, "adagrad", optim_args="lr_decay=0.1").defaults["lr_decay"] == 0.1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("paged_adamw_8bit", None, "no optimizer 'paged_adamw_8bit'.*'adafactor'.*your own"),
        ("sgd", "momentun=0.9", "'sgd' takes no momentun.*momentum"),
        ("sgd", "momentum", "optim_args holds 'momentum'"),
        ("sgd", "momentum=fast", "the value 'fast'"),
    ],
)
def test_optimizers_that_cannot_be(name: str, arguments: str | None, message: str) -> None:
    with pytest.raises((InputError, UnsupportedError), match=message):
        make_optimizer(torch.nn.Linear(2, 2), name, optim_args=arguments)


def test_every_schedule_of_the_reference_has_a_name_here() -> None:
    theirs = {kind.value for kind in transformers.SchedulerType} - {"greedy"}
    assert theirs == {kind.value for kind in optimization.SchedulerType}
