"""A tiny configuration of every registered decoder, and others that show what a family may also be."""

from __future__ import annotations

from typing import Any

_LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "attention_dropout": 0.3,
    "pad_token_id": 0,
}
_MANY_HEADS = {**_LLAMA_LIKE, "num_key_value_heads": 4}
_WINDOWS = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}

TINY_DECODERS: dict[str, dict[str, Any]] = {
    "bloom": {"vocab_size": 61, "hidden_size": 24, "n_layer": 2, "n_head": 3, "hidden_dropout": 0.2},
    "falcon": {
        "vocab_size": 61,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "gemma": {**_LLAMA_LIKE, "head_dim": 8},
    "gemma2": {**_LLAMA_LIKE, **_WINDOWS, "head_dim": 8, "query_pre_attn_scalar": 11, "attn_logit_softcapping": 2.0},
    "gemma3_text": {**_LLAMA_LIKE, **_WINDOWS, "head_dim": 8, "query_pre_attn_scalar": 11},
    "gpt2": {
        "vocab_size": 61,
        "n_embd": 24,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 40,
        "resid_pdrop": 0.2,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.3,
    },
    "gpt_neo": {
        "vocab_size": 61,
        "hidden_size": 24,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 5,
        "max_position_embeddings": 40,
        "classifier_dropout": 0.4,
    },
    "gpt_neox": {
        **{name: value for name, value in _LLAMA_LIKE.items() if name != "num_key_value_heads"},
        "hidden_size": 32,
        "hidden_dropout": 0.2,
        "classifier_dropout": 0.4,
    },
    "gptj": {"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "llama": {**_LLAMA_LIKE, "head_dim": 8},
    "mistral": {**_LLAMA_LIKE, "sliding_window": 5},
    "mixtral": {**_LLAMA_LIKE, "intermediate_size": 40, "num_local_experts": 4},
    "olmo2": _LLAMA_LIKE,
    "opt": {
        "vocab_size": 61,
        "hidden_size": 24,
        "word_embed_proj_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 37,
        "max_position_embeddings": 40,
        "dropout": 0.2,
        "attention_dropout": 0.3,
    },
    "phi": {**_LLAMA_LIKE, "hidden_size": 32, "resid_pdrop": 0.2, "embd_pdrop": 0.1},
    "phi3": {**_LLAMA_LIKE, "hidden_size": 32, "resid_pdrop": 0.2},
    "qwen2": {
        **_LLAMA_LIKE,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen3": {**_LLAMA_LIKE, "head_dim": 8},
    "qwen3_moe": {
        **_LLAMA_LIKE,
        "head_dim": 8,
        "intermediate_size": 40,
        "moe_intermediate_size": 20,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "mlp_only_layers": [0],
    },
    "smollm3": {**_LLAMA_LIKE, "no_rope_layers": [1, 0]},
    "stablelm": {**_LLAMA_LIKE, "hidden_size": 32, "hidden_dropout": 0.2},
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon-new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "falcon-one-norm": ("falcon", {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1, "num_kv_heads": 2}),
    "falcon-rw": ("falcon", {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}),
    "gpt-neox-one-after-another": ("gpt_neox", {"use_parallel_residual": False, "rotary_pct": 1.0}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "mistral-no-window": ("mistral", {"sliding_window": None, "head_dim": 8}),
    "opt-norms-after": ("opt", {"do_layer_norm_before": False}),
    "phi-norms": ("phi", {"qk_layernorm": True}),
    "qwen3-moe-normalised": ("qwen3_moe", {"norm_topk_prob": True, "mlp_only_layers": []}),
    "stablelm-parallel": ("stablelm", {"use_parallel_residual": True, "qk_layernorm": True, "use_qkv_bias": True}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1000.0}}),
    "dynamic": (
        "llama",
        {"rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 8, "rope_theta": 1000.0},
    ),
    "yarn": (
        "llama",
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
    ),
    "llama3": (
        "llama",
        {
            "rope_theta": 500.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "longrope": (
        "phi3",
        {
            "original_max_position_embeddings": 8,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.5, 2.0, 2.5],
                "long_factor": [1.0, 3.0, 5.0, 7.0],
            },
        },
    ),
}
