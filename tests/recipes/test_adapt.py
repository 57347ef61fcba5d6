"""Fine-tuning a language model with an adapter, end to end: held-out perplexity goes down."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from pathlib import Path

import pytest
import torch

from formers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PeftModel,
    PreTrainedTokenizerFast,
)

RECIPE = Path(__file__).parents[2] / "recipes" / "adapt.py"


def base(folder: Path, texts: list[str]) -> None:
    """A small model with new weights, and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    engine = Tokenizer(models.WordLevel(unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    from tokenizers.trainers import WordLevelTrainer

    engine.train_from_iterator(texts, WordLevelTrainer(special_tokens=["<unk>", "<eos>"]))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=engine, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.2,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_held_out_perplexity_goes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = random.Random(0)
    scenes = [("cat", "milk", "kitchen"), ("dog", "bone", "garden"), ("bird", "seed", "cage")]
    chosen = [drawn.choice(scenes) for _ in range(200)]
    texts = [f"the {animal} wants {food} and runs to the {place} ." for animal, food, place in chosen]
    data, output = tmp_path / "texts.tsv", tmp_path / "adapter"
    data.write_text("\n".join(f"{text}\tignored" for text in texts), encoding="utf-8")
    base(tmp_path / "base", texts)
    options = ["--model", str(tmp_path / "base"), "--rank", "4", "--epochs", "3", "--learning-rate", "1e-2"]
    monkeypatch.setattr(sys, "argv", ["adapt.py", "--output", str(output), "--data", str(data), *options])
    spec = importlib.util.spec_from_file_location("adapt", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    recipe.main()
    said = re.search(r"held-out perplexity: ([\d.]+) before, ([\d.]+) after", capsys.readouterr().out)
    assert said is not None
    assert float(said[2]) < 0.5 * float(said[1])
    names = {each.name for each in output.iterdir()}
    assert {"README.md", "training.png", "metrics.jsonl", "adapter_model.safetensors"} <= names
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), output)
