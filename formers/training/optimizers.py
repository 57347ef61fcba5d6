"""Optimisers that torch lacks, as torch.optim.Optimizer: Adafactor in the reference's form, and Lion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from formers.errors import InputError

_HALF = (torch.float16, torch.bfloat16)
Closure = Callable[[], Any]


def _loss(closure: Closure | None) -> Any:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _rms(values: Tensor) -> Tensor:
    size: Tensor = values.norm(2) / values.numel() ** 0.5
    return size


class Adafactor(Optimizer):
    """Adafactor (Shazeer and Stern, 2018): second moments of matrices kept as one row and one column.

    `lr` is for relative_step=False; with relative_step=True the step size follows the step's number, from 1e-6 a step
    with `warmup_init`. `scale_parameter` multiplies it by each parameter's root mean square, at least eps[1].
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        beta1: float | None = None,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
    ) -> None:
        if lr is not None and relative_step:
            raise InputError(
                "Adafactor got both lr and relative_step=True.", "Leave out lr, or pass relative_step=False with it."
            )
        if lr is None and not relative_step:
            raise InputError("Adafactor with relative_step=False got no lr.", "Pass lr.")
        if warmup_init and not relative_step:
            raise InputError("warmup_init=True is a part of relative_step=True.", "Pass relative_step=True.")
        defaults = {
            "lr": lr,
            "eps": eps,
            "clip_threshold": clip_threshold,
            "decay_rate": decay_rate,
            "beta1": beta1,
            "weight_decay": weight_decay,
            "scale_parameter": scale_parameter,
            "relative_step": relative_step,
            "warmup_init": warmup_init,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = _loss(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            raise InputError("Adafactor got a sparse gradient.", "Build the embedding with sparse=False.")
        gradient = gradient.float() if gradient.dtype in _HALF else gradient
        values = parameter.float() if parameter.dtype in _HALF else parameter
        state = self.state[parameter]
        if not state:
            self._start(state, gradient, group)
        state["step"] += 1
        state["RMS"] = _rms(values).item()
        rate = step_size(group, state)
        update = self._scaled(gradient, state, group)
        update.div_((_rms(update) / group["clip_threshold"]).clamp_(min=1.0)).mul_(rate)
        if group["beta1"] is not None:
            update = state["exp_avg"].mul_(group["beta1"]).add_(update, alpha=1 - group["beta1"])
        if group["weight_decay"]:
            values.add_(values, alpha=-group["weight_decay"] * rate)
        values.sub_(update)
        if values is not parameter:
            parameter.copy_(values)

    def _start(self, state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> None:
        state.update(step=0, RMS=0.0)
        if gradient.dim() >= 2:
            state["exp_avg_sq_row"] = gradient.new_zeros(gradient.shape[:-1])
            state["exp_avg_sq_col"] = gradient.new_zeros(gradient.shape[:-2] + gradient.shape[-1:])
        else:
            state["exp_avg_sq"] = torch.zeros_like(gradient)
        if group["beta1"] is not None:
            state["exp_avg"] = torch.zeros_like(gradient)

    def _scaled(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """The gradient over the root of its running mean square."""
        share = state["step"] ** group["decay_rate"]
        square = gradient.square() + group["eps"][0]
        if "exp_avg_sq" in state:
            mean: Tensor = state["exp_avg_sq"].mul_(1 - share).add_(square, alpha=share)
            return mean.rsqrt().mul_(gradient)
        row: Tensor = state["exp_avg_sq_row"].mul_(1 - share).add_(square.mean(-1), alpha=share)
        column: Tensor = state["exp_avg_sq_col"].mul_(1 - share).add_(square.mean(-2), alpha=share)
        scale = (row / row.mean(-1, keepdim=True)).rsqrt().unsqueeze(-1) * column.rsqrt().unsqueeze(-2)
        return scale.mul_(gradient)


def step_size(group: dict[str, Any], state: dict[str, Any]) -> float:
    """The size of Adafactor's last step for a parameter with this state."""
    rate: float = group["lr"]
    if group["relative_step"]:
        longest = 1e-6 * state["step"] if group["warmup_init"] else 1e-2
        rate = min(longest, state["step"] ** -0.5)
    return rate * max(group["eps"][1], state["RMS"]) if group["scale_parameter"] else rate


class AdafactorSchedule(LambdaLR):
    """Shows the step sizes that an Adafactor with relative_step=True chooses itself, `initial_lr` before its first."""

    def __init__(self, optimizer: Optimizer, initial_lr: float = 0.0) -> None:
        for group in optimizer.param_groups:
            group["initial_lr"] = initial_lr
        super().__init__(optimizer, lambda _: 1.0)

    def get_lr(self) -> list[float | Tensor]:
        """The size of the last step in each group."""
        firsts = [(group, self.optimizer.state.get(group["params"][0])) for group in self.optimizer.param_groups]
        return [step_size(group, state) for group, state in firsts if state] or list(self.base_lrs)


class Lion(Optimizer):
    """Lion (Chen et al., 2023): steps of one size, the sign of an interpolated momentum."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"Lion got lr={lr} and betas={betas}.", "Pass lr >= 0 and two betas from 0 to below 1.")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = _loss(closure)
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                momentum: Tensor = state["exp_avg"]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(momentum.lerp(parameter.grad, 1 - first).sign_(), alpha=-group["lr"])
                momentum.lerp_(parameter.grad, 1 - second)
        return loss
