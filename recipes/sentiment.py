"""Make the sentiment model that ships with formers: all-MiniLM-L6-v2 fine-tuned on SST-2, stored as int8.

    python recipes/sentiment.py --output DIR [--data DIR]

`--data` is a folder with train.tsv and validation.tsv (columns sentence and label, tab-separated, one header line);
without it the data come from `datasets.load_dataset("glue", "sst2")`. Takes about half an hour on a CPU core, half of
that with `--bf16` where the processor has it.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from formers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, pipeline, set_seed

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


def batches(examples: Examples, size: int, shuffle: random.Random) -> list[Examples]:
    """Shuffled batches whose sentences have about the same length."""
    order = examples[:]
    shuffle.shuffle(order)
    window = size * 50
    rows = [row for i in range(0, len(order), window) for row in sorted(order[i : i + window], key=lambda r: len(r[0]))]
    cut = [rows[i : i + size] for i in range(0, len(rows), size)]
    shuffle.shuffle(cut)
    return cut


def learning_rate(step: int, total: int, peak: float, warmup: float = 0.06) -> float:
    """Linear rise to the peak, then linear fall to zero."""
    rise = warmup * total
    return peak * min(step / rise, (total - step) / (total - rise))


def train(args: argparse.Namespace, examples: Examples, seed: int) -> PreTrainedModel:
    """The model after fine-tuning, with its weights averaged over the last third of the steps."""
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForSequenceClassification.from_pretrained(BASE, id2label=LABELS).train()
    groups = [[], []]
    for name, parameter in model.named_parameters():
        groups[parameter.dim() < 2 or "norm" in name].append(parameter)
    decayed = [{"params": groups[0], "weight_decay": 0.01}, {"params": groups[1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decayed, fused=True)
    shuffle = random.Random(seed)
    total = args.epochs * math.ceil(len(examples) / args.batch_size)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    progress = tqdm(total=total, unit="step", desc=f"seed {seed}")
    step, recent = 0, 0.0
    for _ in range(args.epochs):
        for batch in batches(examples, args.batch_size, shuffle):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, total, args.learning_rate)
            texts, labels = zip(*batch, strict=True)
            inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=128, return_tensors="pt")
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
                loss = model(**inputs, labels=torch.tensor(labels)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step > total * 2 / 3 and step % 8 == 0:
                averaged.update_parameters(model)
            recent = 0.99 * recent + 0.01 * loss.item()
            progress.set_postfix(loss=f"{recent / (1 - 0.99**step):.3f}", refresh=False)
            progress.update()
    progress.close()
    return averaged.module.eval()


@torch.no_grad()
def average(models: list[PreTrainedModel]) -> PreTrainedModel:
    """The first model with the mean of all their weights (Wortsman et al., 2022)."""
    states = [model.state_dict() for model in models]
    models[0].load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return models[0]


@torch.no_grad()
def expect_equal_classes(model: PreTrainedModel, examples: Examples) -> None:
    """Take the training set's surplus of one class out of the logits: other texts need not have it."""
    positive = sum(label for _, label in examples) / len(examples)
    surplus = math.log(positive / (1 - positive))
    model.head.output.bias += torch.tensor([surplus / 2, -surplus / 2])


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
  learning rate of {rate:g} (linear warm-up and decay), seed {seeds}, weights averaged over the last third of the steps,
  bias set for equally frequent classes. The validation set served to choose among a few such runs.
* **Stored** as int8 with one scale for each row of each matrix; formers turns it back into float32 when it loads.
* **Limits**: trained on sentences of English film reviews; other kinds of text, languages, irony and mixed feelings are
  outside what was measured. It always answers one of the two labels.
"""


def main() -> None:
    """Train, save, measure, and write the model card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--data", type=Path, help="folder with train.tsv and validation.tsv")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="several: the average of their models")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products: faster on CPUs that have them")
    args = parser.parse_args()

    examples, validation = read_split(args.data, "train"), read_split(args.data, "validation")
    model = average([train(args, examples, seed) for seed in args.seeds])
    expect_equal_classes(model, examples)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    scores = {}
    with tempfile.TemporaryDirectory() as full:
        for folder, stored in ((Path(full), None), (args.output, "int8")):
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
        seeds=" and ".join(map(str, args.seeds)),
        **scores,
    )
    (args.output / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
