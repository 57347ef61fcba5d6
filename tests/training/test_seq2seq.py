"""Seq2SeqTrainer: predictions are what the model generates."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from formers.errors import InputError
from formers.training.arguments import Seq2SeqTrainingArguments, TrainingArguments
from formers.training.collators import DataCollatorForSeq2Seq
from formers.training.evaluation import FILL
from formers.training.seq2seq import Seq2SeqTrainer
from tests.training.small import model


class Copies(torch.nn.Module):
    """A little model of its own: it learns to write each token again, and writes until the row's padding."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(pad_token_id=0)
        self.table = torch.nn.Embedding(61, 61)
        torch.nn.init.zeros_(self.table.weight)
        self.asked: list[dict[str, Any]] = []

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None, attention_mask: Any = None) -> Any:
        logits = self.table(input_ids)
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}

    def generate(self, input_ids: torch.Tensor, max_length: int = 20, num_beams: int = 1, **more: Any) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.asked.append({"max_length": max_length, "num_beams": num_beams, "given": sorted(more)})
        return self.table(input_ids[:, :max_length]).argmax(-1)


ROWS = [{"input_ids": list(range(5, 5 + n)), "labels": list(range(5, 5 + n))} for n in (3, 5, 2, 4)]


class Tokens:
    """Pads, and knows its padding token."""

    pad_token_id = 0
    padding_side = "right"

    def pad(self, rows: list[dict[str, Any]], **options: Any) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        return {"input_ids": torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])}


def make(folder: Path, made: Any = None, **settings: Any) -> Any:
    metrics = settings.pop("compute_metrics", None)
    args = Seq2SeqTrainingArguments(
        str(folder),
        **{
            "use_cpu": True,
            "report_to": "none",
            "learning_rate": 0.5,
            "predict_with_generate": True,
            "per_device_eval_batch_size": 2,
            "num_train_epochs": 3,
            **settings,
        },
    )
    tokens: Any = Tokens()
    collator = DataCollatorForSeq2Seq(tokens)
    return Seq2SeqTrainer(
        made or Copies(), args, collator, ROWS, ROWS, processing_class=tokens, compute_metrics=metrics
    )


def exact(prediction: Any) -> dict[str, float]:
    written, labels = prediction
    width = max(written.shape[1], labels.shape[1])
    pad = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=FILL) for part in (written, labels)]
    return {"exact": float(np.mean((pad[0] == pad[1])[pad[1] != FILL]))}


def test_metrics_are_those_of_what_is_written(tmp_path: Path) -> None:
    made = make(tmp_path, compute_metrics=exact, eval_strategy="epoch", generation_max_length=6, generation_num_beams=2)
    assert made.evaluate()["eval_exact"] == 0.0
    made.train()
    found = made.evaluate()
    assert found["eval_exact"] == 1.0
    assert 0 < found["eval_loss"] < 4
    assert made.model.asked[-1] == {"max_length": 6, "num_beams": 2, "given": []}
    output = made.predict(ROWS)
    # Filled up to the longest allowed, in the order of the rows.
    assert output.predictions.shape == (4, 6)
    assert output.predictions[2].tolist()[:2] == [5, 6]
    assert output.label_ids[1].tolist() == [5, 6, 7, 8, 9]
    # Arguments of the call come first, and last for it alone.
    made.evaluate(max_length=2, num_beams=None)
    assert made.model.asked[-1]["max_length"] == 2
    made.evaluate({"a": ROWS, "b": ROWS}, num_beams=3)
    assert made.model.asked[-1]["num_beams"] == 3
    assert made.predict(ROWS, max_length=4).predictions.shape == (4, 4)
    made.evaluate()
    assert made.model.asked[-1] == {"max_length": 6, "num_beams": 2, "given": []}


def test_logits_without_generation(tmp_path: Path) -> None:
    made = make(tmp_path, predict_with_generate=False)
    assert made.predict(ROWS).predictions.shape == (4, 5, 61)
    assert not made.model.asked


def test_decoder_inputs_that_tell_the_answer_are_left_out(tmp_path: Path) -> None:
    made = make(tmp_path)
    batch = {"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.ones(2, 3, dtype=torch.long)}
    batch["labels"] = torch.ones(2, 3, dtype=torch.long)
    made.compute_loss = lambda model, inputs, return_outputs, num_items_in_batch: (torch.tensor(1.0), {})
    for width, expected in ((3, ["attention_mask"]), (1, ["attention_mask", "decoder_input_ids"])):
        loss, _, labels = made.prediction_step(
            made.model, {**batch, "decoder_input_ids": torch.ones(2, width, dtype=torch.long)}, False
        )
        assert made.model.asked[-1]["given"] == expected
        assert float(loss) == 1.0
        assert torch.equal(labels, batch["labels"])


def test_a_configuration_of_generation(tmp_path: Path) -> None:
    from formers import GenerationConfig

    (tmp_path / "own.json").write_text(json.dumps({"max_length": 7, "pad_token_id": 3}))
    config = GenerationConfig(max_length=7, pad_token_id=3)
    for given in (config, str(tmp_path / "own.json")):
        made = make(tmp_path, generation_config=given)
        assert made.model.generation_config.max_length == 7
        assert made.predict(ROWS).predictions.shape == (4, 7)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BertForSequenceClassification has no generate"):
        make(tmp_path, model())
    with pytest.raises(InputError, match="got TrainingArguments"):
        Seq2SeqTrainer(Copies(), TrainingArguments(str(tmp_path)))  # type: ignore[arg-type]
    assert make(tmp_path, sortish_sampler=True).args.train_sampling_strategy == "group_by_length"


WORDS = ["<pad>", "</s>", "one", "two", "three", "four", "five"]


def words() -> Any:
    """A tokenizer of a few words, which ends a text with </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from formers import PreTrainedTokenizerFast

    engine = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, "<pad>"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    engine.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=engine, pad_token="<pad>", eos_token="</s>")


def test_an_encoder_decoder_learns_to_write(tmp_path: Path) -> None:
    from formers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration, set_seed
    from formers.training.metrics import Metrics
    from formers.training.text_metrics import ExactMatch, Texts

    set_seed(1)
    tokenizer = words()
    sizes: dict[str, Any] = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(WORDS), decoder_start_token_id=0, dropout_rate=0.0, **sizes)
    network = T5ForConditionalGeneration(config)
    pairs = [("one two", "two"), ("two three four", "three"), ("four", "five"), ("five one", "one five two")]
    rows = [{"input_ids": tokenizer(a)["input_ids"], "labels": tokenizer(b)["input_ids"]} for a, b in pairs]
    collator = DataCollatorForSeq2Seq(tokenizer, model=network)
    batch = collator(rows)
    assert batch["decoder_input_ids"].tolist() == [[0, 3, 1, 0], [0, 4, 1, 0], [0, 6, 1, 0], [0, 2, 6, 3]]
    args = Seq2SeqTrainingArguments(
        str(tmp_path),
        use_cpu=True,
        report_to="none",
        learning_rate=1e-2,
        num_train_epochs=120,
        eval_strategy="steps",
        eval_steps=40,
        save_strategy="no",
        predict_with_generate=True,
        generation_max_length=6,
        per_device_eval_batch_size=3,
        generation_num_beams=2,
    )
    made = Seq2SeqTrainer(
        network,
        args,
        collator,
        rows,
        rows,
        processing_class=tokenizer,
        compute_metrics=Metrics(Texts(tokenizer, ExactMatch())),
    )
    assert made.evaluate()["eval_exact_match"] < 1
    made.train()
    # Its weights changed after every evaluation, and what was prepared for one is not used in the next.
    found = made.evaluate()
    assert found["eval_exact_match"] == 1.0
    output = made.predict(rows)
    assert output.predictions.shape == (4, 6)
    assert tokenizer.batch_decode(output.predictions, skip_special_tokens=True) == [b for _, b in pairs]
    made.save_model()
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    ids = again.generate(tokenizer("five one", return_tensors="pt")["input_ids"], max_length=6)
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "one five two"


def test_predictions_are_the_references(tmp_path: Path) -> None:
    import transformers

    pytest.importorskip("accelerate")
    from formers import AutoModelForSeq2SeqLM

    layers = dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 1}
    transformers.set_seed(0)
    config = transformers.BartConfig(
        vocab_size=len(WORDS), d_model=32, init_std=0.5, forced_eos_token_id=None, **layers, **heads, **tokens
    )
    theirs = transformers.BartForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path / "model")
    mine = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    tokenizer = words()
    texts = [("one two", "two"), ("two three four", "three"), ("four", "five two one"), ("five one", "one five two")]
    rows = [{"input_ids": tokenizer(a)["input_ids"], "labels": tokenizer(b)["input_ids"]} for a, b in texts]
    settings: dict[str, Any] = {"use_cpu": True, "report_to": "none", "predict_with_generate": True}
    settings |= {"generation_max_length": 7, "generation_num_beams": 3, "per_device_eval_batch_size": 4}
    collator = DataCollatorForSeq2Seq(tokenizer)
    own = Seq2SeqTrainer(
        mine, Seq2SeqTrainingArguments(str(tmp_path / "own"), **settings), collator, processing_class=tokenizer
    ).predict(rows)
    other = transformers.Seq2SeqTrainer(
        theirs,
        transformers.Seq2SeqTrainingArguments(str(tmp_path / "other"), **settings),
        lambda features: dict(collator(features)),
    ).predict(rows)
    # The reference fills up to its default length, 20, at least.
    assert own.predictions.tolist() == other.predictions[:, :7].tolist()
    assert len(set(own.predictions.flatten().tolist())) > 3
    assert own.metrics["test_loss"] == pytest.approx(other.metrics["test_loss"], rel=1e-4)
