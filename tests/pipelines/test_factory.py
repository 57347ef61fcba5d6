"""pipeline(): tasks, models, tokenizers, devices and types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import formers
from formers import pipeline
from formers.errors import InputError
from formers.pipelines import Pipeline, TextClassificationPipeline, check_task, get_supported_tasks
from formers.pipelines.base import resolve_device

HEADS = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}


@pytest.fixture(scope="module")
def folder(make_bert: Callable[..., Path]) -> Path:
    return make_bert("ForSequenceClassification")


@pytest.mark.parametrize(("head", "task"), HEADS.items())
def test_the_task_is_told_from_the_model(make_bert: Callable[..., Path], head: str, task: str) -> None:
    folder = make_bert(head, ["A", "B"])
    assert pipeline(model=folder).task == task
    assert pipeline(model=str(folder)).task == task
    auto = {"Model": "AutoModel"}.get(head, "AutoModel" + head)
    model = getattr(formers, auto).from_pretrained(folder)
    tokenizer = formers.AutoTokenizer.from_pretrained(folder)
    assert pipeline(model=model, tokenizer=tokenizer).task == task


def test_the_card_knows_the_task_better(make_bert: Callable[..., Path]) -> None:
    folder = make_bert("ForSequenceClassification", ["contradiction", "entailment"])
    (folder / "README.md").write_text("---\nlicense: mit\npipeline_tag: zero-shot-classification\n---\nA model.\n")
    assert pipeline(model=folder).task == "zero-shot-classification"
    (folder / "README.md").write_text("---\npipeline_tag: sentence-similarity\n---\n")
    assert pipeline(model=folder).task == "text-classification"
    (folder / "README.md").write_text("pipeline_tag: fill-mask\n")
    assert pipeline(model=folder).task == "text-classification"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("text-clasification", "'text-classification'"),
        ("sentiment", "'sentiment-analysis'"),
        ("no such thing", "The tasks are: automatic-speech-recognition, feature-extraction"),
    ],
)
def test_unknown_tasks_name_near_ones(task: str, message: str) -> None:
    with pytest.raises(InputError, match=f"no task '{task}'.*{message}"):
        pipeline(task)


def test_aliases() -> None:
    assert check_task("sentiment-analysis") == "text-classification"
    assert check_task("ner") == "token-classification"
    assert {"ner", "fill-mask"} <= set(get_supported_tasks())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Neither a task nor a model"),
        ({"task": "ner", "tokenizer": "x"}, "without a model"),
        ({"task": "ner", "feature_extractor": "x"}, "feature_extractor= was given.*tokenizer="),
        ({"task": "ner", "image_processor": "x"}, "image_processor"),
        ({"task": "ner", "video_processor": "x"}, "video_processor"),
        ({"task": "ner", "processor": "x"}, "processor"),
    ],
    ids=str,
)
def test_arguments_that_do_not_go_together(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"framework": "tf"}, "framework='tf'"),
        ({"binary_output": True}, "binary_output"),
        ({"device": "cpu", "device_map": "cpu"}, "device and device_map"),
        ({"dtype": "float32", "torch_dtype": "float16"}, "Several data types"),
        ({"dtype": "float33"}, "'float33' is not a data type"),
        ({"revision": "a", "model_kwargs": {"revision": "b"}}, "revision is given twice"),
    ],
    ids=str,
)
def test_wrong_arguments_for_a_model(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline("text-classification", model=folder, **arguments)


def test_a_loaded_model_needs_its_tokenizer(folder: Path) -> None:
    model = formers.AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.raises(InputError, match=r"needs a tokenizer.*AutoTokenizer"):
        pipeline("text-classification", model=model)
    assert pipeline("text-classification", model=model, config=str(folder))("good")
    assert pipeline("text-classification", model=model, tokenizer=str(folder))("good")
    assert pipeline("text-classification", model=model, tokenizer=(str(folder), {"use_fast": True}))("good")


def test_arguments_that_are_accepted(folder: Path) -> None:
    pipe = pipeline(
        "text-classification",
        str(folder),
        str(folder),
        str(folder),
        framework="pt",
        revision=None,
        use_fast=False,
        token=None,
        device=-1,
        trust_remote_code=True,
        model_kwargs={"attn_implementation": "eager"},
        num_workers=2,
        batch_size=2,
        local_files_only=True,
    )
    assert pipe.batch_size == 2
    assert len(pipe(["good", "bad", "a good movie"])) == 3


def test_a_class_of_ones_own(folder: Path) -> None:
    class Loud(TextClassificationPipeline):
        def postprocess(self, *arguments: Any) -> Any:
            return super().postprocess(*arguments)["label"] + "!"

    pipe = pipeline("text-classification", model=folder, pipeline_class=Loud)
    assert isinstance(pipe, Pipeline)
    assert pipe(["good"])[0].endswith("!")


def test_half_precision_weights_are_computed_in_float32_on_a_cpu(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a CPU without units for them.
    monkeypatch.setattr("formers.models.placement._multiplies_bfloat16", lambda: False)
    model = formers.AutoModelForSequenceClassification.from_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    formers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert pipeline("text-classification", model=tmp_path, device="cpu").dtype == torch.float32
    for arguments in ({"dtype": "auto"}, {"device_map": "cpu"}, {"model_kwargs": {"device_map": {"": "cpu"}}}):
        assert pipeline("text-classification", model=tmp_path, **arguments).dtype == torch.float32
    for wanted in ({"dtype": torch.bfloat16}, {"torch_dtype": "bfloat16"}, {"model_kwargs": {"dtype": "bfloat16"}}):
        pipe = pipeline("text-classification", model=tmp_path, device="cpu", **wanted)
        assert pipe.dtype == torch.bfloat16
        assert pipe("good")[0]["label"] in ("NEGATIVE", "POSITIVE", "NEUTRAL")


def test_dtype_of_a_loaded_model(folder: Path) -> None:
    model = formers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = formers.AutoTokenizer.from_pretrained(folder)
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer, dtype=torch.float64)
    assert pipe.dtype == torch.float64


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert resolve_device(None) == resolve_device(-1) == resolve_device("cpu") == torch.device("cpu")
    with pytest.warns(UserWarning, match="no accelerator"):
        assert resolve_device(0) == torch.device("cpu")
    with pytest.raises(InputError, match="'cuda:1' is not available"):
        resolve_device("cuda:1")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert resolve_device(None) == torch.device("cuda")
    assert resolve_device(1) == torch.device("cuda:1")
    assert resolve_device(-1) == torch.device("cpu")


def test_the_room_is_light() -> None:
    """Importing pipelines loads no task, no model family and no tokenizer engine."""
    code = (
        "import sys; from formers import pipeline; "
        "print([m for m in sys.modules if m.startswith(('formers.pipelines.', 'formers.models', 'tokenizers', "
        "'huggingface_hub', 'safetensors'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    loaded = {"formers.pipelines.base", "formers.pipelines.batching", "formers.pipelines.encoding"}
    loaded |= {"formers.pipelines.notice"}
    assert set(eval_list(done.stdout)) == loaded | {"formers.pipelines.factory"}


def eval_list(text: str) -> list[str]:
    return [name.strip(" '\"") for name in text.strip().strip("[]").split(",")]


def test_reference_names_are_there() -> None:
    import formers.pipelines as room

    for name in ("FillMaskPipeline", "QuestionAnsweringPipeline", "ZeroShotClassificationPipeline"):
        assert issubclass(getattr(room, name), Pipeline)
    with pytest.raises(AttributeError, match="NoSuchPipeline"):
        room.NoSuchPipeline  # noqa: B018
