"""What a feature extractor returns: model inputs by name."""

from __future__ import annotations

from typing import Any

import torch


class BatchFeature(dict[str, Any]):
    """Model inputs by name ("input_features", "attention_mask", …), also as attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self[name]

    def to(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """Move and cast the tensors, as torch's `to`; whole numbers keep their type."""
        probe = torch.empty(0).to(*args, **kwargs)
        for name, value in self.items():
            if isinstance(value, torch.Tensor):
                self[name] = value.to(probe.device, probe.dtype if value.is_floating_point() else value.dtype)
        return self
