"""`formers train`, with tiny models on tiny data."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import formers
from formers.cli import fitting
from formers.training.callbacks import TrainerCallback

pytest.importorskip("datasets")

Invoke = Callable[..., Any]
Tiny = Callable[[str], Path]
QUICK = ("--use-cpu", "--report-to", "none", "--batch-size", "8", "--learning-rate", "0.01", "--epochs", "2")


def words(count: int, seed: int = 0) -> list[tuple[str, bool]]:
    """Texts of letters, and whether they begin with an a."""
    numbers = random.Random(seed)
    made = []
    for index in range(count):
        rest = " ".join(numbers.choice("bcdefg") for _ in range(numbers.randint(2, 6)))
        made.append((f"{'az'[index % 2]} {rest}", index % 2 == 0))
    return made


def csv(path: Path, count: int = 48, names: tuple[str, str] = ("other", "first"), seed: int = 0) -> Path:
    rows = [f"{text},{names[first]}" for text, first in words(count, seed)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_a_file_becomes_a_model(invoke: Invoke, tiny: Tiny, tmp_path: Path) -> None:
    data, out = csv(tmp_path / "data.csv", 80), tmp_path / "out"
    done = invoke("train", data, "--model", tiny("Model"), "-o", out, *QUICK, "--epochs", "4")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{out}\n"
    for said in (
        "data: 80 rows of train",
        "task: text-classification; texts: text; labels: label",
        "2 labels: first, other",
        "validation: 8 of the 80 rows, drawn at random; each label in its share (seed 42)",
        f'use it: formers run text-classification "A text." --model {out}',
    ):
        assert said in done.stderr
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md", "metrics.jsonl", "metrics.csv"):
        assert (out / name).is_file(), name
    assert (out / "training.png").is_file() or not pytest.importorskip("matplotlib")
    results = json.loads((out / "results.json").read_text())
    assert results["validation"]["accuracy"] == 1.0
    assert 'pipeline_tag: "text-classification"' in (out / "README.md").read_text()
    answer = invoke("run", "text-classification", "a b c", "z b c", "--model", out)
    assert [json.loads(line)["label"] for line in answer.stdout.splitlines()] == ["first", "other"]


def test_run_yaml_repeats_the_run(invoke: Invoke, tiny: Tiny, tmp_path: Path) -> None:
    data = csv(tmp_path / "data.csv")
    first, second = tmp_path / "first", tmp_path / "second"
    assert invoke("train", data, "--model", tiny("Model"), "-o", first, *QUICK).exit_code == 0
    written = yaml.safe_load((first / "run.yaml").read_text())
    assert written["text_column"] == "text"
    assert written["learning_rate"] == 0.01
    done = invoke("train", "--config", first / "run.yaml", "-o", second)
    assert done.exit_code == 0, done.stderr
    assert same(first, second)
    again = yaml.safe_load((second / "run.yaml").read_text())
    assert {**again, "output_dir": ""} == {**written, "output_dir": ""}


def _pairs(folder: Path) -> Path:
    rows = [f'{text}\t"b {text}\t{int(first)}' for text, first in words(24)]
    path = folder / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def _numbers(folder: Path) -> Path:
    rows = [f"{text},{len(text) / 3:.3f}" for text, _ in words(24)]
    path = folder / "numbers.csv"
    path.write_text("text,score\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def _several(folder: Path) -> Path:
    rows = [{"text": text, "labels": ["long"] * (len(text) > 8) + ["first"] * first} for text, first in words(24)]
    return jsonl(folder / "several.jsonl", rows)


def _flags(folder: Path) -> Path:
    rows = [{"text": text, "long": int(len(text) > 8), "first": int(first)} for text, first in words(24)]
    return jsonl(folder / "flags.jsonl", rows)


def _hot(folder: Path) -> Path:
    rows = [{"text": text, "labels": [int(len(text) > 8), int(first), 0]} for text, first in words(24)]
    return jsonl(folder / "hot.jsonl", rows)


def _tagged(folder: Path) -> Path:
    rows = [
        {"tokens": text.split(), "tags": ["B-X" if word in "ab" else "O" for word in text.split()]}
        for text, _ in words(24)
    ]
    return jsonl(folder / "tagged.jsonl", rows)


def _lines(folder: Path) -> Path:
    path = folder / "lines.txt"
    path.write_text("\n".join(text for text, _ in words(60)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("make", "options", "said", "metrics", "used"),
    [
        (_pairs, (), "texts: sentence1 and sentence2; labels: label", {"accuracy", "f1"}, "--pair-column 'sentence2'"),
        (_numbers, (), "task: regression; texts: text; labels: score", {"mse", "mae", "pearson", "spearman"}, "run"),
        (_several, (), "2 labels: first, long", {"f1_micro", "f1_macro"}, "run"),
        (_flags, (), "labels: long, first", {"f1_micro", "f1_macro"}, "run"),
        (_hot, ("--label-names", "long,first,none"), "3 labels: long, first, none", {"f1_micro"}, "run"),
        (_tagged, (), "task: token-classification; texts: tokens; labels: tags", {"f1", "precision"}, "run"),
        (_lines, ("--max-length", "16"), "task: fill-mask; texts: text", {"perplexity", "accuracy"}, "[MASK]"),
        (_lines, ("--line-by-line", "--max-steps", "3"), "task: fill-mask", {"perplexity"}, "[MASK]"),
        (_lines, ("--task", "clm", "--max-length", "16"), "task: text-generation", {"perplexity", "accuracy"}, "out"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_every_task(
    invoke: Invoke,
    tiny: Tiny,
    tmp_path: Path,
    make: Callable[[Path], Path],
    options: tuple[str, ...],
    said: str,
    metrics: set[str],
    used: str,
) -> None:
    out = tmp_path / "out"
    data = make(tmp_path)
    done = invoke("train", data, "--model", tiny("Model"), "-o", out, *QUICK, *options)
    assert done.exit_code == 0, done.stderr
    assert said in done.stderr
    found = json.loads((out / "results.json").read_text())["validation"]
    assert metrics <= set(found)
    assert used in done.stderr.rpartition("use it:")[2]
    # What was trained can be evaluated, on the same data, without a word about its columns.
    judged = invoke("eval", data, "--model", out, "--use-cpu")
    assert judged.exit_code == 0, judged.stderr
    assert metrics <= set(json.loads(judged.stdout)["metrics"])


def test_a_folder_of_splits(invoke: Invoke, tiny: Tiny, tmp_path: Path) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    folder.mkdir()
    csv(folder / "train.csv", 40)
    csv(folder / "my-dev.csv", 10, seed=1)
    csv(folder / "test.csv", 12, seed=2)
    done = invoke("train", folder, "--model", tiny("Model"), "-o", out, *QUICK, "--max-train-samples", "24")
    assert done.exit_code == 0, done.stderr
    assert "data: 40 rows of train, 10 rows of validation, 12 rows of test" in done.stderr
    assert "train: 24 rows, drawn at random" in done.stderr
    assert set(json.loads((out / "results.json").read_text())) == {"validation", "test"}


def test_a_saved_dataset_with_declared_classes_and_an_unlabelled_test(
    invoke: Invoke, tiny: Tiny, tmp_path: Path
) -> None:
    import datasets

    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"]))
    texts = words(24)
    rows = {"text": [text for text, _ in texts], "label": [int(first) for _, first in texts]}
    unlabelled = {"text": rows["text"], "label": [-1] * 24}
    saved = datasets.DatasetDict(
        train=datasets.Dataset.from_dict(rows, features), test=datasets.Dataset.from_dict(unlabelled, features)
    )
    saved.save_to_disk(str(tmp_path / "saved"))
    out = tmp_path / "out"
    done = invoke("train", tmp_path / "saved", "--model", tiny("Model"), "-o", out, *QUICK, "--validation-share", "0.5")
    assert done.exit_code == 0, done.stderr
    assert "2 labels: no, yes" in done.stderr
    assert "not used: the labels of test are missing" not in done.stdout
    assert set(json.loads((out / "results.json").read_text())) == {"validation"}
    assert json.loads((out / "config.json").read_text())["id2label"] == {"0": "no", "1": "yes"}


def test_interrupted_and_continued_as_if_nothing_had_happened(
    invoke: Invoke, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    data, model = csv(tmp_path / "data.csv"), tiny("Model")

    class Interrupt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    settings = (*QUICK, "--max-steps", "8")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert invoke("train", data, "--model", model, "-o", whole, *settings).exit_code == 0
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "Lines", Interrupt)
        done = invoke("train", data, "--model", model, "-o", cut, *settings)
    assert done.exit_code == 130
    assert "checkpoint-4 is kept, and --resume continues from it" in done.stderr
    assert not (cut / "model.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is handler
    done = invoke("train", data, "--model", model, "-o", cut, *settings, "--resume")
    assert done.exit_code == 0, done.stderr
    assert "continuing from" in done.stderr
    assert same(whole, cut)


def test_a_run_is_continued_as_it_was_started(invoke: Invoke, tiny: Tiny, tmp_path: Path) -> None:
    data, out = csv(tmp_path / "data.csv"), tmp_path / "out"
    assert invoke("train", data, "--model", tiny("Model"), "-o", out, *QUICK, "--max-steps", "2").exit_code == 0
    done = invoke("train", data, "--model", tiny("Model"), "-o", out, *QUICK, "--resume", "--seed", "1")
    assert done.exit_code == 1
    assert "was started with seed=42, and this is 1" in done.stderr


def test_a_folder_with_files_is_not_written_into(invoke: Invoke, tiny: Tiny, tmp_path: Path) -> None:
    data, out = csv(tmp_path / "data.csv"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "checkpoint-7").mkdir()
    line = ("train", data, "--model", tiny("Model"), "-o", out, *QUICK, "--max-steps", "2")
    done = invoke(*line)
    assert done.exit_code == 1
    assert "holds files already. Name another one with --output-dir, or say --overwrite" in done.stderr
    assert invoke(*line, "--overwrite").exit_code == 0
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate: 1\n", "there is no setting 'lerning_rate'. Did you mean learning_rate"),
        ("learning_rate: fast\n", "learning_rate is 'fast'. Give a number."),
        ("epochs: 1\nnum_train_epochs: 2\n", "has 'num_train_epochs' twice, under two names"),
        ("- 1\n", "holds no settings"),
        ("a: [\n", "is not YAML"),
        ("lr_scheduler_type: linear\nfp16_opt_level: O3\n", "fp16_opt_level='O3' is not supported"),
    ],
)
def test_a_wrong_config_is_refused(invoke: Invoke, tiny: Tiny, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    done = invoke("train", csv(tmp_path / "data.csv"), "--model", tiny("Model"), "--config", file, "-o", tmp_path / "o")
    assert done.exit_code == 1
    assert message in done.stderr
    assert not (tmp_path / "o").exists()


def test_flags_win_over_the_config(invoke: Invoke, tiny: Tiny, tmp_path: Path) -> None:
    file, out = tmp_path / "mine.yaml", tmp_path / "out"
    values = {"data": str(csv(tmp_path / "data.csv")), "model": str(tiny("Model")), "epochs": 5, "save-strategy": "no"}
    # As people write them: YAML takes 5e-5 for a text, and no for a false.
    file.write_text(yaml.safe_dump(values) + "learning_rate: 5e-5\neval_strategy: no\nuse_cpu: true\n")
    done = invoke("train", "-c", file, "-o", out, "--max-steps", "1", "--report-to", "none", "--weight-decay", "0.2")
    assert done.exit_code == 0, done.stderr
    written = yaml.safe_load((out / "run.yaml").read_text())
    assert (written["learning_rate"], written["eval_strategy"], written["num_train_epochs"]) == (5e-5, "no", 5.0)
    assert (written["max_steps"], written["weight_decay"], written["save_strategy"]) == (1, 0.2, "no")
    assert not list(out.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--epochs", "many"), 2, "Give a number"),
        (("--lerning-rate", "1"), 2, "No such option"),
        (("--task", "classify"), 1, "There is no task 'classify' to train"),
        (("--text-column", "texts"), 1, "Did you mean 'text'?"),
        (("--label-names", "a,b,c"), 1, "--label-names has 3 names; the data have 2 labels"),
        (("--validation-share", "1"), 1, "Use a --validation-share between 0 and 1"),
        (("--push", "a/b/c"), 1, "Use a name such as my-name/my-model"),
        (("--push", "me/mine"), 1, "--push needs a token of the hub"),
        (("--fp16-opt-level", "O3"), 1, "fp16_opt_level='O3' is not supported"),
        (("--format", "xls"), 1, "There is no format 'xls'"),
    ],
)
def test_what_is_wrong_is_said_before_work_starts(
    invoke: Invoke,
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    done = invoke("train", csv(tmp_path / "data.csv"), "--model", tiny("Model"), "-o", tmp_path / "out", *options)
    assert done.exit_code == code
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("missing", "hint"), [("data", "DATA"), ("model", "--model")])
def test_data_and_model_are_needed(invoke: Invoke, tmp_path: Path, missing: str, hint: str) -> None:
    line = {"data": (str(csv(tmp_path / "data.csv")),), "model": ("--model", "some")}
    done = invoke("train", *(each for name, part in line.items() if name != missing for each in part))
    assert done.exit_code == 2
    assert hint in done.stderr


def test_the_end_is_an_upload(invoke: Invoke, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from formers.hub import upload

    sent: list[Any] = []

    class Done:
        commit_url = "https://hub/commit"

    def commit(folder: Any, repo_id: str, **more: Any) -> Any:
        sent.append((Path(folder), repo_id, more["ignore"]))
        return Done

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    monkeypatch.setattr(upload, "make_repository", lambda name, private: f"me/{name}")
    monkeypatch.setattr(upload, "commit_folder", commit)
    out = tmp_path / "out"
    line = ("train", csv(tmp_path / "data.csv"), "--model", tiny("Model"), "-o", out, *QUICK, "--max-steps", "2")
    done = invoke(*line, "--push", "mine")
    assert done.exit_code == 0, done.stderr
    assert sent[0][:2] == (out, "me/mine")
    assert "checkpoint-*" in sent[0][2]
    assert "uploaded: https://hub/commit" in done.stderr

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("gone")

    monkeypatch.setattr(upload, "commit_folder", fail)
    done = invoke(*line, "--push", "mine", "--overwrite")
    assert done.exit_code == 1
    assert f"The model is in {out}; upload it with `hf upload mine {out}`" in done.stderr


def test_classes_that_the_model_knows_keep_their_numbers(invoke: Invoke, tiny_classifier: Path, tmp_path: Path) -> None:
    data = csv(tmp_path / "data.csv", names=("entailment", "contradiction"))
    out = tmp_path / "out"
    done = invoke("train", data, "--model", tiny_classifier, "-o", out, *QUICK, "--max-steps", "1")
    assert done.exit_code == 0, done.stderr
    assert formers.AutoConfig.from_pretrained(out).id2label == {0: "contradiction", 1: "entailment"}


def test_adapters(invoke: Invoke, tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ("train", csv(tmp_path / "data.csv"), "--model", tiny("Model"), "-o", out, *QUICK)
    done = invoke(*line, "--lora", "--lora-r", "2")
    assert done.exit_code == 0, done.stderr
    assert "parameters are trained" in done.stderr
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["r"] == 2
    # The output folder holds the whole model, merged: what was frozen is as it was.
    before, after = weights(tiny("Model")), weights(out)
    changed = {name for name in before if not before[name].equal(after["bert." + name])}
    assert changed == {name for name in before if name.endswith(("query.weight", "value.weight"))}
    judged = invoke("eval", tmp_path / "data.csv", "--model", out, "--use-cpu")
    assert judged.exit_code == 0, judged.stderr
