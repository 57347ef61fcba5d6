"""Generation: from a model's logits to tokens. It knows a model only as something to call with ids and a cache."""

from __future__ import annotations

from formers.generation.config import GenerationConfig
from formers.generation.generate import generate, stream, stream_text
from formers.generation.steps import Step

__all__ = ["GenerationConfig", "Step", "generate", "stream", "stream_text"]
