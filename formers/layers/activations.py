"""Activation functions by the names that configurations use."""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches

import torch
from torch import Tensor
from torch.nn import functional as F

from formers.errors import ConfigError

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation (Hendrycks and Gimpel, 2016)."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """X * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def gelu_clipped(x: Tensor) -> Tensor:
    """GELU cut to [-10, 10]."""
    return F.gelu(x).clamp(-10.0, 10.0)


def relu_squared(x: Tensor) -> Tensor:
    """The square of relu (So et al., 2021)."""
    return F.relu(x).square()


def mish(x: Tensor) -> Tensor:
    """X * tanh(softplus(x)) (Misra, 2019)."""
    return F.mish(x)


def laplace(x: Tensor) -> Tensor:
    """The Laplace approximation of relu squared (Ma et al., 2022)."""
    return 0.5 * (1.0 + torch.erf((x - math.sqrt(0.5)) / math.sqrt(0.5 / math.pi)))


def linear(x: Tensor) -> Tensor:
    """The identity."""
    return x


ACTIVATIONS: dict[str, Activation] = {
    "gelu": F.gelu,
    "gelu_10": gelu_clipped,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": F.gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "hardswish": F.hardswish,
    "laplace": laplace,
    "leaky_relu": F.leaky_relu,
    "linear": linear,
    "mish": mish,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": relu_squared,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Activation:
    """The function called `name`; ConfigError with near names for an unknown one."""
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    near = get_close_matches(name, ACTIVATIONS, 3) or sorted(ACTIVATIONS)
    raise ConfigError(f"Unknown activation function {name!r}.", f"Use one of: {', '.join(near)}.")
