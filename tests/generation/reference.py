"""Tiny random models of the reference implementation, and the same ones here."""

from __future__ import annotations

import tempfile
from functools import cache
from typing import Any

import transformers

import formers


@cache
def reference(kind: str = "gpt2", seed: int = 0, **config: Any) -> Any:
    """A tiny random model of the reference."""
    transformers.set_seed(seed)
    common = {"vocab_size": 37, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 35} | config
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


@cache
def ours(kind: str = "gpt2", seed: int = 0, **config: Any) -> Any:
    """The same model here."""
    with tempfile.TemporaryDirectory() as folder:
        reference(kind, seed, **config).save_pretrained(folder)
        return formers.AutoModelForCausalLM.from_pretrained(folder)
