"""Where a model's weights lie, and the type it computes in. The oracle is the model that lies in one place."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import formers
from formers.errors import FormersError, InputError, MissingDependencyError, UnsupportedError
from formers.models import placement
from tests.generation.chats import small_llama

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("llama"), tie_word_embeddings=request.param)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    formers.set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    formers.BertForSequenceClassification(formers.BertConfig(vocab_size=100, **sizes)).save_pretrained(folder)
    return folder


def load(folder: Path, **options: Any) -> Any:
    return formers.AutoModelForCausalLM.from_pretrained(folder, **options)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def away(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.is_meta}


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two accelerators, as far as names go."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    return


# -- offloading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device_map",
    [
        {"": "cpu", "model.layers.1": "disk"},
        {"model.embed_tokens": "cpu", "model.layers": "disk", "model.norm": "cpu", "lm_head": "disk"},
        {"model.embeddings": "disk", "model.layers.0": "cpu", "": "disk"},
        {"": "disk"},
        "disk",
    ],
    ids=str,
)
def test_parts_on_disk_compute_the_same(folder: Path, tmp_path: Path, device_map: Any) -> None:
    pytest.importorskip("accelerate")
    whole = load(folder)
    expected = logits(whole)
    model = load(folder, device_map=device_map, offload_folder=tmp_path / "new")
    assert away(model)
    assert torch.equal(logits(model), expected)
    assert model.device == torch.device("cpu")
    assert model.dtype == torch.float32
    assert "disk" in model.hf_device_map.values()
    settings = {"max_new_tokens": 8, "do_sample": False}
    assert torch.equal(model.generate(IDS, **settings), whole.generate(IDS, **settings))
    assert torch.equal(logits(model.for_inference()), expected), "weights that come and go were packed"
    assert away(model), "what was brought for a moment stayed"


def test_max_memory_fills_one_place_after_the_other(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model = load(folder, device_map="auto", max_memory={"cpu": "80KB"}, offload_folder=tmp_path)
    places = list(model.hf_device_map.values())
    assert places == sorted(places)
    assert set(places) == {"cpu", "disk"}
    held = sum(p.numel() * 4 for p in model.parameters() if not p.is_meta)
    assert held <= 80_000
    assert torch.equal(logits(model), logits(load(folder)))
    assert load(folder, device_map="auto", max_memory={"cpu": "1GB"}).hf_device_map is None
    assert load(folder, device_map="auto", max_memory={"cpu": 10**9}).hf_device_map is None


def test_an_accelerators_memory_is_filled_first(folder: Path, accelerator: None) -> None:
    with torch.device("meta"):
        model = formers.LlamaForCausalLM(formers.AutoConfig.from_pretrained(folder))
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")

    def fill(**memory: Any) -> list[Any]:
        limits = {0 if name == "gpu" else name: size for name, size in memory.items()}
        assert placement.main_device("auto", limits) == gpu
        places = placement.spread(model, "auto", limits, torch.float32, gpu)
        return [] if places is None else list(places.values())

    assert fill(gpu="1GB") == []
    names = [name for name, _ in placement.units(model)]
    assert names == ["model.embeddings", "model.layers.0", "model.layers.1", "model.norm", "head"]
    assert set(fill(gpu="90KB")) == {gpu, cpu}
    assert list(dict.fromkeys(fill(gpu="90KB", cpu="40KB"))) == [gpu, cpu, "disk"]
    assert set(fill(gpu=0, cpu=0)) == {"disk"}


def test_each_model_has_files_of_its_own(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    options = {"device_map": {"": "disk"}, "offload_folder": tmp_path}
    first, second = load(folder, **options), load(folder, **options)
    assert len(list(tmp_path.iterdir())) == 2
    assert torch.equal(logits(first), logits(second))
    del first, second
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_encoders(encoder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    cls = formers.AutoModelForSequenceClassification
    device_map = {"bert.embeddings": "disk", "bert.encoder.layer.1": "disk", "": "cpu"}
    model = cls.from_pretrained(encoder, device_map=device_map, offload_folder=tmp_path)
    assert any("layers.1." in name for name in away(model))
    assert torch.equal(logits(model), logits(cls.from_pretrained(encoder)))


def test_a_pipeline(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    options = {"device_map": "auto", "model_kwargs": {"max_memory": {"cpu": "80KB"}, "offload_folder": tmp_path}}
    pipe = formers.pipeline("text-generation", model=str(folder), **options)
    assert away(pipe.model)
    text = pipe("hello", max_new_tokens=5, do_sample=False)
    assert text == formers.pipeline("text-generation", model=str(folder))("hello", max_new_tokens=5, do_sample=False)


def test_what_is_offloaded_is_not_saved_half(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model = load(folder, device_map={"": "disk"}, offload_folder=tmp_path / "offloaded")
    with pytest.raises(InputError, match=r"offloaded\. Load it without device_map"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device_map": {"": "disk"}}, InputError, r"5 of 5 parts of the model go to disk: .* Pass offload_folder="),
        (
            {"device_map": {"model.layers.0": "cpu"}},
            InputError,
            r"no place for \d+ weights: model\.embed_tokens.*add \"\"",
        ),
        (
            {"device_map": {"": "cpu", "model.layers.0.mlp": "disk"}},
            InputError,
            r"splits 'model\.layers\.0'.*a block is the smallest part",
        ),
        ({"device_map": "cpu", "max_memory": {"cpu": "1GB"}}, InputError, r"without device_map='auto'"),
        ({"device_map": "auto", "max_memory": {"cpu": "much"}}, InputError, r"max_memory='much' is not a size"),
        ({"device_map": {"": "gpu"}}, InputError, r"device_map='gpu' is no device"),
    ],
)
def test_wrong_maps(folder: Path, options: dict[str, Any], error: type[FormersError], message: str) -> None:
    with pytest.raises(error, match=message):
        load(folder, **options)


def test_devices_that_are_not_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for device_map in (0, "0", {"": 0}):
        with pytest.raises(InputError, match=r"Device 0 was asked for; there are no accelerators here\. Use \"cpu\""):
            load(folder, device_map=device_map)
    with pytest.raises(InputError, match=r"device_map='cuda:1' is not available here"):
        load(folder, device_map="cuda:1")
    assert load(folder, device_map="auto").device.type == "cpu"


def test_one_accelerator_computes(accelerator: None) -> None:
    assert placement.main_device(1) == placement.main_device("1") == torch.device("cuda", 1)
    assert placement.main_device("auto") == placement.main_device("cuda") == torch.device("cuda", 0)
    assert placement.main_device({"a": "cpu", "b": 1, "c": "disk"}) == torch.device("cuda", 1)
    assert placement.main_device({"a": "cuda", "b": "cuda:0"}) == torch.device("cuda", 0)
    with pytest.raises(InputError, match="Device 2 was asked for; there are 2 accelerators here"):
        placement.main_device(2)
    with pytest.raises(UnsupportedError, match=r"over 2 accelerators: cuda:0, cuda:1\. Use one of them"):
        placement.main_device({"a": 0, "b": 1})
    with pytest.raises(UnsupportedError, match="max_memory names 2 accelerators"):
        placement.main_device("auto", {0: "1GB", 1: "1GB"})


def test_without_accelerate(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(placement, "find_spec", lambda name: None if name == "accelerate" else found(name))
    with pytest.raises(MissingDependencyError, match=r"'accelerate'.*formers\[train\]"):
        load(folder, device_map={"": "disk"}, offload_folder=tmp_path)
    assert load(folder, device_map={"": "cpu"}).hf_device_map is None


# -- types -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("units", [True, False])
def test_the_automatic_type_of_a_cpu(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: torch.dtype, units: bool
) -> None:
    monkeypatch.setattr(placement, "_multiplies_bfloat16", lambda: units)
    load(folder, dtype=stored).save_pretrained(tmp_path)
    halves = (torch.bfloat16, torch.float16)
    expected = torch.float32 if stored == torch.float16 or (stored in halves and not units) else stored
    for options in ({"dtype": "auto"}, {"torch_dtype": "auto"}, {"dtype": "auto", "device_map": "cpu"}):
        model = load(tmp_path, **options)
        assert model.dtype == expected
        assert model.config.dtype == str(expected).removeprefix("torch.")
    assert load(tmp_path).dtype == torch.float32
    for asked in halves:
        assert load(tmp_path, dtype=asked).dtype == load(tmp_path, torch_dtype=str(asked)).dtype == asked


def test_the_automatic_type_of_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    for able in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)  # noqa: B023
        assert placement.automatic_dtype(torch.bfloat16, cuda) == (torch.bfloat16 if able else torch.float32)
        assert placement.automatic_dtype(torch.float16, cuda) == torch.float16
    assert placement.automatic_dtype(torch.bfloat16, torch.device("mps")) == torch.bfloat16
