"""Norms by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from formers.models.spec import ModelSpec

# Mean and variance (Ba et al., 2016); root mean square (Zhang and Sennrich, 2019); the same with weights around zero.
NormKind = Literal["layer", "rms", "offset_rms"]


class RMSNorm(nn.Module):
    """X / rms(x) * w over the last dimension, computed in float32; `offset` is added to the weights (Gemma: 1)."""

    def __init__(self, width: int, eps: float, offset: float = 0.0) -> None:
        super().__init__()
        self.eps = eps
        self.offset = offset
        self.initial = 1.0 - offset
        self.weight = nn.Parameter(torch.full((width,), self.initial))

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) to (…, W)."""
        if x.dtype == torch.float32:
            weight = self.weight + self.offset if self.offset else self.weight
            if x.device.type == "cpu" and not torch.is_grad_enabled():
                # torch's own is made of twice as many operations on a CPU; few tokens wait for these.
                norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
                return x * torch.rsqrt(norm * norm / x.shape[-1] + self.eps) * weight
            return F.rms_norm(x, weight.shape, weight, self.eps)
        normed = F.rms_norm(x.float(), self.weight.shape, eps=self.eps)
        # Weights around zero are added to one in float32; others multiply what has been rounded.
        if self.offset:
            return (normed * (self.weight.float() + self.offset)).to(x.dtype)
        return self.weight * normed.to(x.dtype)


class HeadNorms(nn.Module):
    """One norm for each head of (T, heads, D), without biases (StableLM)."""

    def __init__(self, heads: int, width: int, spec: ModelSpec) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, spec.norm_eps, bias=False) for _ in range(heads))

    def forward(self, x: Tensor) -> Tensor:
        """(T, heads, D) to (T, heads, D)."""
        return torch.stack([norm(head) for norm, head in zip(self.norms, x.unbind(-2), strict=True)], dim=-2)


def make_norm(spec: ModelSpec, width: int | None = None) -> nn.Module:
    """The norm that a model uses, over `width` values (the model's width unless given)."""
    width = width or spec.width
    if spec.norm == "layer":
        return nn.LayerNorm(width, spec.norm_eps, bias=spec.norm_bias)
    return RMSNorm(width, spec.norm_eps, 1.0 if spec.norm == "offset_rms" else 0.0)
