"""A tiny configuration of every registered encoder–decoder, and others that show what a family may also be."""

from __future__ import annotations

from typing import Any

_T5_LIKE: dict[str, Any] = {
    "vocab_size": 61,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 37,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "dropout_rate": 0.2,
    "classifier_dropout": 0.4,
    "decoder_start_token_id": 0,
}
_BART_LIKE: dict[str, Any] = {
    "vocab_size": 61,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 33,
    "max_position_embeddings": 40,
    "dropout": 0.2,
    "attention_dropout": 0.3,
    "activation_dropout": 0.1,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}
_MARIAN = {**_BART_LIKE, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "scale_embedding": True}
_WHISPER: dict[str, Any] = {
    "vocab_size": 120, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_source_positions": 30,
    "max_target_positions": 20, "num_mel_bins": 8, "bos_token_id": 10, "eos_token_id": 10, "pad_token_id": 10,
    "decoder_start_token_id": 11, "use_weighted_layer_sum": True, "begin_suppress_tokens": [3, 10],
}  # fmt: skip

TINY_SEQ2SEQ: dict[str, dict[str, Any]] = {
    "bart": {**_BART_LIKE, "classifier_dropout": 0.4},
    "blenderbot": _BART_LIKE,
    "blenderbot-small": _BART_LIKE,
    "m2m_100": _BART_LIKE,
    "marian": _MARIAN,
    "mbart": {**_BART_LIKE, "classifier_dropout": 0.4},
    "mt5": _T5_LIKE,
    "pegasus": {**_BART_LIKE, "scale_embedding": True},
    "t5": _T5_LIKE,
    "umt5": _T5_LIKE,
    "whisper": _WHISPER,
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bart-scaled": ("bart", {"scale_embedding": True, "activation_function": "relu"}),
    "marian-two-vocabularies": (
        "marian",
        {"decoder_vocab_size": 61, "share_encoder_decoder_embeddings": False},
    ),
    "t5-gated": ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-silu": ("t5", {"feed_forward_proj": "gated-silu"}),
}
