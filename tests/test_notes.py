"""What beginners' notes on transformers show, with only the import changed, and the numbers that they print."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

RAW_INPUTS = [
    "I've been waiting for a HuggingFace course my whole life.",
    "I hate this so much!",
]
FIRST = [101, 1045, 1005, 2310, 2042, 3403, 2005, 1037, 17662, 12172, 2607, 2026, 2878, 2166, 1012, 102]
SECOND = [101, 1045, 5223, 2023, 2061, 2172, 999, 102]


def test_sentiment_of_one_and_of_two_sentences():
    from formers import pipeline

    classifier = pipeline("sentiment-analysis")
    one = classifier(RAW_INPUTS[0])
    both = classifier(RAW_INPUTS)
    assert [set(answer) for answer in one] == [{"label", "score"}]
    assert [answer["label"] for answer in both] == ["POSITIVE", "NEGATIVE"]
    assert both[0]["score"] == pytest.approx(one[0]["score"], abs=1e-5)
    assert all(0.5 < answer["score"] <= 1.0 for answer in both)


def test_from_texts_to_hidden_states(minilm: Path):
    from formers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    inputs = tokenizer(RAW_INPUTS, padding=True, truncation=True, return_tensors="pt")
    assert inputs["input_ids"].tolist() == [FIRST, SECOND + [0] * 8]
    assert inputs["attention_mask"].tolist() == [[1] * 16, [1] * 8 + [0] * 8]
    outputs = AutoModel.from_pretrained(minilm)(**inputs)
    assert outputs.last_hidden_state.shape == torch.Size([2, 16, 384])


def test_truncation_to_a_length(minilm: Path):
    from formers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    cut = tokenizer(RAW_INPUTS, max_length=8, truncation=True)
    assert cut["input_ids"] == [[*FIRST[:7], 102], SECOND]


def test_a_saved_model(minilm: Path, tmp_path: Path):
    from formers import BertModel

    model = BertModel.from_pretrained(minilm)
    model.save_pretrained(tmp_path / "new")
    model.save_pretrained(tmp_path / "old", safe_serialization=False)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == ["config.json", "pytorch_model.bin"]
    for folder in ("new", "old"):
        again = BertModel.from_pretrained(tmp_path / folder)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_tokens_ids_and_back(minilm: Path):
    from formers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    tokens = tokenizer.tokenize("Using a Transformer network is simple")
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert tokens == ["using", "a", "transform", "##er", "network", "is", "simple"]
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert tokenizer.decode(ids) == "using a transformer network is simple"


def test_a_pair_of_sentences(minilm: Path):
    from formers import AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(minilm)("This is the first sentence.", "This is the second one.")
    first, second = [2023, 2003, 1996, 2034, 6251, 1012], [2023, 2003, 1996, 2117, 2028, 1012]
    assert inputs["input_ids"] == [101, *first, 102, *second, 102]
    assert inputs["token_type_ids"] == [0] * 8 + [1] * 7
    assert inputs["attention_mask"] == [1] * 15


def test_a_dataset_tokenized_in_batches(minilm: Path):
    from datasets import Dataset

    from formers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    rows = {"sentence1": ["A cat sleeps.", "It rains."], "sentence2": ["A cat naps.", "The sun shines today."]}

    def tokenize_function(example):
        return tokenizer(example["sentence1"], example["sentence2"], truncation=True)

    tokenized = Dataset.from_dict(rows).map(tokenize_function, batched=True)
    assert set(tokenized.column_names) == {*rows, "input_ids", "token_type_ids", "attention_mask"}
    expected = tokenizer(rows["sentence1"], rows["sentence2"], padding=True, truncation=True)["input_ids"]
    assert [row + [0] * (len(expected[0]) - len(row)) for row in tokenized["input_ids"]] == expected


def test_fine_tuning(minilm: Path, tmp_path: Path):
    from datasets import Dataset

    from formers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    model = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    rows = {"sentence1": ["A cat sleeps.", "It rains."] * 4, "sentence2": ["It naps.", "It is dry."] * 4}
    raw = Dataset.from_dict({**rows, "label": [1, 0] * 4, "idx": list(range(8))})
    tokenized = raw.map(lambda row: tokenizer(row["sentence1"], row["sentence2"], truncation=True), batched=True)
    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path / "test-trainer")),
        train_dataset=tokenized,
        eval_dataset=tokenized,
        data_collator=DataCollatorWithPadding(tokenizer=tokenizer),
        tokenizer=tokenizer,
    )
    before = trainer.evaluate()["eval_loss"]
    assert trainer.train().global_step == 3
    assert trainer.evaluate()["eval_loss"] < before
