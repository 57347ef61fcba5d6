"""A dense layer with low-rank changes beside it (Hu et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.errors import InputError


class LoraLinear(nn.Module):
    """A frozen dense layer and its adapters by name. Only `active` ones change its outputs, unless some are merged."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.ParameterDict()
        self.lora_B = nn.ParameterDict()
        self.scaling: dict[str, float] = {}
        self.dropout: dict[str, float] = {}
        self.active: tuple[str, ...] = ()
        self.merged: tuple[str, ...] = ()
        # The layer's own weight while others are merged into a copy of it; in a dict, so that it is no parameter.
        self._own: dict[str, nn.Parameter] = {}

    @property
    def in_features(self) -> int:
        """How many values go in."""
        return self.base_layer.in_features

    @property
    def out_features(self) -> int:
        """How many values come out."""
        return self.base_layer.out_features

    @property
    def weight(self) -> Tensor:
        """The weight (out, in) at work: the layer's parameter, or the sum of it and the active changes."""
        weight = self.base_layer.weight
        return weight if self.merged else self._sum(weight, self._present(self.active))

    @property
    def bias(self) -> Tensor | None:
        """The bias (out,)."""
        return self.base_layer.bias

    def add(
        self,
        name: str,
        rank: int,
        scaling: float,
        dropout: float,
        init: bool | str,
        dtype: torch.dtype,
        a: Tensor | None,
    ) -> nn.Parameter:
        """Make the adapter `name` and return its A (rank, in): a new one, or the given one that layers share."""
        device = self.base_layer.weight.device
        if a is None:
            a = nn.Parameter(torch.empty(rank, self.in_features, device=device, dtype=dtype))
            if init == "gaussian":
                nn.init.normal_(a, std=1 / rank)
            else:
                nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        b = nn.Parameter(torch.zeros(self.out_features, rank, device=device, dtype=dtype))
        if init is False:
            nn.init.kaiming_uniform_(b, a=math.sqrt(5))
        self.lora_A[name], self.lora_B[name] = a, b
        self.scaling[name], self.dropout[name] = scaling, dropout
        shared: nn.Parameter = self.lora_A[name]
        return shared

    def remove(self, name: str) -> None:
        """Forget the adapter `name` if it is here."""
        if name in self.lora_A:
            del self.lora_A[name], self.lora_B[name], self.scaling[name], self.dropout[name]

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        out: Tensor = self.base_layer(x)
        for name in () if self.merged else self._present(self.active):
            a, b = self.lora_A[name], self.lora_B[name]
            low = F.linear(F.dropout(x.to(a.dtype), self.dropout[name], self.training), a)
            out = out + (F.linear(low, b) * self.scaling[name]).to(out.dtype)
        return out

    def merge(self, names: Iterable[str], safe: bool = False) -> None:
        """Let the weight itself be the sum with the named changes. `safe`: raise if that is not finite."""
        names = self._present(names)
        if not names:
            return
        weight: nn.Parameter = self.base_layer.weight  # type: ignore[assignment, unused-ignore]
        merged = self._sum(weight.detach(), names)
        if safe and not bool(merged.isfinite().all()):
            raise InputError(f"The adapters {', '.join(names)} have values that are not finite.", "Train them anew.")
        self._own.setdefault("weight", weight)
        self.base_layer.weight = nn.Parameter(merged, requires_grad=weight.requires_grad)
        self.merged += names

    def unmerge(self) -> None:
        """Give the layer its own weight back, bit by bit."""
        if self.merged:
            now, own = self.base_layer.weight, self._own.pop("weight")
            own.data = own.data.to(now)
            self.base_layer.weight, self.merged = own, ()

    def _present(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in self.lora_A)

    def _sum(self, weight: Tensor, names: tuple[str, ...]) -> Tensor:
        if not names:
            return weight
        exact = torch.promote_types(weight.dtype, torch.float32)
        total = weight.to(exact)
        for name in names:
            total = total + self.lora_B[name].to(exact) @ self.lora_A[name].to(exact) * self.scaling[name]
        return total.to(weight.dtype)
