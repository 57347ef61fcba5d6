"""A tiny configuration of every registered family. Each dropout has its own value, so that tests tell them apart."""

from __future__ import annotations

from typing import Any

from tests.parity.tiny_decoders import TINY_DECODERS
from tests.parity.tiny_seq2seq import TINY_SEQ2SEQ

_BERT_LIKE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.3,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-5,
}

TINY: dict[str, dict[str, Any]] = {
    "albert": {
        **_BERT_LIKE,
        "embedding_size": 16,
        "num_hidden_layers": 4,
        "num_hidden_groups": 2,
        "inner_group_num": 2,
        "type_vocab_size": 3,
        "classifier_dropout_prob": 0.4,
    },
    "bert": {**_BERT_LIKE, "hidden_act": "gelu_new", "type_vocab_size": 3, "classifier_dropout": 0.4},
    "camembert": {**_BERT_LIKE, "type_vocab_size": 1},
    "deberta-v2": {
        **_BERT_LIKE,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pooler_dropout": 0.1,
    },
    "distilbert": {
        "vocab_size": 61,
        "dim": 24,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 37,
        "max_position_embeddings": 40,
        "dropout": 0.2,
        "attention_dropout": 0.3,
        "qa_dropout": 0.4,
        "seq_classif_dropout": 0.1,
        "activation": "gelu_new",
    },
    "electra": {
        **_BERT_LIKE,
        "embedding_size": 16,
        "hidden_act": "relu",
        "type_vocab_size": 3,
        "classifier_dropout": 0.4,
        "summary_last_dropout": 0.1,
        "summary_activation": "tanh",
    },
    "modernbert": {
        "vocab_size": 61,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        "local_attention": 14,
        "embedding_dropout": 0.1,
        "attention_dropout": 0.2,
        "mlp_dropout": 0.3,
        "classifier_dropout": 0.4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "mpnet": {**_BERT_LIKE, "hidden_act": "relu", "pad_token_id": 3},
    "roberta": {**_BERT_LIKE, "hidden_act": "gelu_new", "type_vocab_size": 2, "classifier_dropout": 0.4},
    "xlm-roberta": {**_BERT_LIKE, "type_vocab_size": 1, "pad_token_id": 3},
    **TINY_DECODERS,
    **TINY_SEQ2SEQ,
}
TINY["encoder-decoder"] = {
    "encoder": {"model_type": "bert", **TINY["bert"]},
    "decoder": {"model_type": "gpt2", **TINY["gpt2"], "is_decoder": True, "add_cross_attention": True},
    "decoder_start_token_id": 1,
    "pad_token_id": 0,
}
