"""What all contenders share, written before anything is measured: `python -m benchmarks.prepare FOLDER …`.

FOLDER/model is the sentiment model that ships with formers, in float32; FOLDER/base is all-MiniLM-L6-v2 with a random
head of two classes. FOLDER/validation.json and FOLDER/train.json are the sentences; FOLDER/classifier.onnx is the first
model for ONNX Runtime; FOLDER/mrpc.json is what the second is trained on; FOLDER/smollm has SmolLM2's GGUF file;
FOLDER/t5-small and FOLDER/marian are encoder–decoders with random weights; FOLDER/whisper hears FOLDER/speech.npy.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from benchmarks import generation, seq2seq, speech, training

NAMES = {0: "NEGATIVE", 1: "POSITIVE"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def classifier(folder: Path) -> None:
    """The model that `pipeline("sentiment-analysis")` uses, with its weights in float32, which all contenders read."""
    from formers import pipeline

    shipped = pipeline("sentiment-analysis")
    shipped.model.save_pretrained(folder)
    shipped.tokenizer.save_pretrained(folder)


def base(folder: Path) -> None:
    """A model to train: weights and configuration as formers writes them, tokenizer files as published."""
    import torch

    from formers import AutoModelForSequenceClassification
    from formers.hub.files import resolve
    from formers.registry import MINILM

    torch.manual_seed(0)
    labels = {"id2label": NAMES, "label2id": {name: index for index, name in NAMES.items()}}
    model = AutoModelForSequenceClassification.from_pretrained(MINILM, num_labels=len(NAMES), **labels)
    model.save_pretrained(folder)
    published = resolve(MINILM)
    for name in TOKENIZER_FILES:
        if (path := published.find(name)) is not None:
            shutil.copyfile(path, folder / name)


def sentences(split: str, data: Path | None) -> list[str]:
    """The sentences of a split of SST-2: of DATA/SPLIT.tsv (columns sentence, label), or else of the hub's GLUE."""
    if data is None:
        from datasets import load_dataset

        return list(load_dataset("glue", "sst2", split=split)["sentence"])
    with open(data / f"{split}.tsv", encoding="utf-8", newline="") as file:
        return [row["sentence"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def export(model: Path, target: Path) -> None:
    """The classifier as an ONNX graph from ids, mask and types to logits, traced from the reference implementation."""
    import torch
    from transformers import AutoModelForSequenceClassification

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModelForSequenceClassification.from_pretrained(model)

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits

    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.arange(1000, 1014).reshape(2, 7)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])  # some padding, or tracing leaves the mask out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits().eval(),
            (ids, mask, torch.zeros_like(ids)),
            target,
            dynamo=False,  # the other exporter needs one more package
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names},
            opset_version=17,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sentences", type=int, help="of the validation split; all if left out")
    parser.add_argument("--lines", type=int, help="of the training split; all if left out")
    parser.add_argument("--onnx", action="store_true", help="export the model, too")
    parser.add_argument("--training", action="store_true", help="write MRPC, too")
    parser.add_argument("--mrpc", type=Path)
    parser.add_argument("--generation", action="store_true", help="a decoder, too")
    parser.add_argument("--seq2seq", action="store_true", help="encoder–decoders, too")
    parser.add_argument("--speech", action="store_true", help="Whisper and what it hears, too")
    parser.add_argument("--quick", action="store_true", help="little to train on")
    given = parser.parse_args()
    model = given.folder / "model"
    classifier(model)
    base(given.folder / "base")
    for split, count in (("validation", given.sentences), ("train", given.lines)):
        (given.folder / f"{split}.json").write_text(json.dumps(sentences(split, given.data)[:count]))
    if given.training:
        training.prepare(given.folder, given.mrpc, given.quick)
    if given.generation:
        generation.prepare(given.folder)
    if given.seq2seq:
        seq2seq.prepare(given.folder)
    if given.speech:
        speech.prepare(given.folder)
    if given.onnx:
        try:
            export(model, given.folder / "classifier.onnx")
        except Exception as error:  # an optional peer: its rows say that it was skipped
            (given.folder / "classifier.onnx.error").write_text(f"no ONNX export: {error!r:.200}")
    print("{}")


if __name__ == "__main__":
    main()
