"""Make the sentiment model that ships with formers: all-MiniLM-L6-v2 fine-tuned on SST-2, stored as int8.

    python recipes/sentiment.py --output DIR [--data DIR]

`--data` is a folder with train.tsv and validation.tsv (columns sentence and label, tab-separated, one header line);
without it the data come from `datasets.load_dataset("glue", "sst2")`. Takes about forty minutes on a CPU core, less
with `--bf16` where the processor has it; the model that ships was made so.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from formers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
    set_seed,
)

BASE = "sentence-transformers/all-MiniLM-L6-v2"
LABELS = {0: "NEGATIVE", 1: "POSITIVE"}
Examples = list[tuple[str, int]]


def read_split(data: Path | None, split: str) -> Examples:
    """The (sentence, label) pairs of a split."""
    if data is None:
        from datasets import load_dataset

        return [(row["sentence"], row["label"]) for row in load_dataset("glue", "sst2", split=split)]
    with open(data / f"{split}.tsv", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"], int(row["label"])) for row in rows]


class WeightAverage(TrainerCallback):
    """The mean of the weights after every eighth step of the last third (Izmailov et al., 2018)."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.averaged = torch.optim.swa_utils.AveragedModel(model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Add this step's weights if they count."""
        if state.global_step > state.max_steps * 2 / 3 and state.global_step % 8 == 0:
            self.averaged.update_parameters(model)


def train(args: argparse.Namespace, examples: Examples, work: str) -> PreTrainedModel:
    """The model after fine-tuning, its weights averaged over the last third of the steps."""
    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForSequenceClassification.from_pretrained(BASE, id2label=LABELS)
    average = WeightAverage(model)
    texts, labels = zip(*examples, strict=True)
    ids = tokenizer(list(texts), truncation=True, max_length=128)["input_ids"]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=work,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            warmup_ratio=0.06,
            weight_decay=0.01,
            bf16=args.bf16,
            seed=args.seed,
            save_strategy="no",
            logging_steps=100,
        ),
        train_dataset=[{"input_ids": row, "label": label} for row, label in zip(ids, labels, strict=True)],
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[average],
    )
    trainer.train()
    averaged: PreTrainedModel = average.averaged.module
    return averaged.eval()


def accuracy(folder: Path, examples: Examples) -> float:
    """Share of examples that the saved model, through the pipeline, labels rightly."""
    classify = pipeline("text-classification", model=str(folder))
    answers = classify([text for text, _ in examples])
    return sum(a["label"] == LABELS[label] for a, (_, label) in zip(answers, examples, strict=True)) / len(examples)


CARD = """---
license: apache-2.0
base_model: {base}
pipeline_tag: text-classification
---
# all-MiniLM-L6-v2 for sentiment

[{base}](https://huggingface.co/{base}) (Apache-2.0), fine-tuned on SST-2
(Socher et al., 2013) to tell negative from positive English sentences. It is the default of
`pipeline("sentiment-analysis")`.

* **Accuracy** on the SST-2 validation set ({count} sentences): {int8:.2%} as stored here, {full:.2%} before rounding to
  int8.
* **Made by** `recipes/sentiment.py`: {train} training sentences, {epochs} epochs, batches of {batch}, AdamW with a peak
  learning rate of {rate:g} (linear warm-up and decay), seed {seed}, weights averaged over the last third of the steps.
  The validation set served to choose among a few such runs.
* **Stored** as int8 with one scale for each row of each matrix; formers turns it back into float32 when it loads.
* **Limits**: trained on sentences of English film reviews; other kinds of text, languages, irony and mixed feelings are
  outside what was measured. It always answers one of the two labels.
"""


def main() -> None:
    """Train, save, measure, and write the model card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--data", type=Path, help="folder with train.tsv and validation.tsv")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=4e-5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products: faster on CPUs that have them")
    args = parser.parse_args()

    examples, validation = read_split(args.data, "train"), read_split(args.data, "validation")
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    scores = {}
    with tempfile.TemporaryDirectory() as work:
        model = train(args, examples, work)
        for folder, stored in ((Path(work, "full"), None), (args.output, "int8")):
            model.save_pretrained(folder, save_quantized=stored)
            tokenizer.save_pretrained(folder)
            scores[stored or "full"] = accuracy(folder, validation)
    print(json.dumps(scores))
    card = CARD.format(
        base=BASE,
        count=len(validation),
        train=len(examples),
        epochs=args.epochs,
        batch=args.batch_size,
        rate=args.learning_rate,
        seed=args.seed,
        **scores,
    )
    (args.output / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
