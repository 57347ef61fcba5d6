"""Small models with random weights, in folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from formers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=90, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, num_labels=3
    )
    folder = tmp_path_factory.mktemp("encoder")
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["tied", "untied", "gpt2"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model: with a matrix of the vocabulary of its own or not, and one whose files hold (in, out)."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("decoder")
    if request.param == "gpt2":
        GPT2LMHeadModel(GPT2Config(vocab_size=90, n_embd=64, n_layer=2, n_head=4, n_positions=64)).save_pretrained(
            folder
        )
        return folder
    config = LlamaConfig(
        vocab_size=90,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        tie_word_embeddings=request.param == "tied",
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
