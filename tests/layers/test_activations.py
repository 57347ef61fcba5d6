"""Activation functions against the reference implementation's."""

from __future__ import annotations

import pytest
import torch
from transformers.activations import ACT2FN

from formers.errors import ConfigError
from formers.layers.activations import ACTIVATIONS, activation

X = torch.tensor([-30.0, -10.0, -3.0, -1.0, -0.5, -0.01, 0.0, 0.01, 0.5, 1.0, 3.0, 10.0, 30.0])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_values_and_gradients(name: str) -> None:
    own, other = X.clone().requires_grad_(), X.clone().requires_grad_()
    values, expected = activation(name)(own), ACT2FN[name](other)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)
    values.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-6)


# Functions that hold parameters, or that are made with arguments.
LEFT_OUT = {"prelu", "sqrtsoftplus", "xielu", "swiglu"}


def test_all_names_of_the_reference_are_known() -> None:
    assert set(ACT2FN) - set(ACTIVATIONS) <= LEFT_OUT


def test_inputs_are_left_alone() -> None:
    for function in ACTIVATIONS.values():
        x = X.clone()
        function(x)
        assert torch.equal(x, X)


@pytest.mark.parametrize(("name", "near"), [("gelu_newest", "gelu_new"), ("Relu", "relu"), ("???", "gelu, gelu_10")])
def test_unknown_names(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=r"Unknown activation function .* Use one of: .*" + near) as caught:
        activation(name)
    assert repr(name) in str(caught.value)
