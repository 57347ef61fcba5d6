"""A small tokenizer of bytes."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import formers


@pytest.fixture(scope="session")
def tokenizer() -> formers.PreTrainedTokenizerFast:
    """A byte-level BPE of 300 tokens; <eos> is 0."""
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(['the name is and age of {"name": "x"} hello world 123 "'] * 5, trainer)
    return formers.PreTrainedTokenizerFast(tokenizer_object=engine, eos_token="<eos>")
