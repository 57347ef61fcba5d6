"""The reference implementation's tiny models behind the interface that generation knows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor

from tests.generation.toy import Toy


@cache
def reference(kind: str = "gpt2", seed: int = 0, **config: Any) -> Any:
    """A tiny random model of the reference."""
    transformers.set_seed(seed)
    common = {"vocab_size": 37, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} | config
    if kind == "gpt2":
        settings: Any = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **common)
    else:
        settings = transformers.LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=48,
            max_position_embeddings=128,
            **common,
        )
    settings.initializer_range = 0.4
    return transformers.AutoModelForCausalLM.from_config(settings).eval()


class Wrapped(Toy):
    """Computes each row's logits with a model of the reference."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def logits(self, ids: Sequence[int]) -> Tensor:
        with torch.no_grad():
            found: Tensor = self.model(torch.tensor([list(ids)])).logits[0, -1]
        return found
