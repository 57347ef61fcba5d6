"""Files pass between the reference and formers in both directions, nothing missing and nothing left over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import formers
from formers.models.saving import checkpoint_tensors
from formers.registry import AUTO_CLASSES, FAMILIES
from tests.parity.pairs import (
    CAUSAL,
    Pair,
    batch,
    class_name,
    close,
    families,
    heads,
    new_pair,
    ours,
    pair,
    same,
    vocabulary_heads,
)

# Heads that stand for all where a test is about files rather than about the model.
SOME = ("ForMaskedLM", "ForSequenceClassification")
# What Auto classes serve here and not in the reference.
OURS_ALONE = {("modernbert", "AutoModelForPreTraining")}


def read_by_reference(models: Pair, folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    found: tuple[Any, dict[str, Any]] = type(models.reference).from_pretrained(
        folder, output_loading_info=True, local_files_only=True, attn_implementation="eager", **options
    )
    return found


def read_by_us(models: Pair, folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    found: tuple[Any, dict[str, Any]] = type(models.ours).from_pretrained(folder, output_loading_info=True, **options)
    return found


def assert_nothing_left(info: dict[str, Any]) -> None:
    assert {name: list(value) for name, value in info.items() if value} == {}


def assert_same_outputs(models: Pair) -> None:
    given = batch(models)
    cache = {"use_cache": False} if models.head in CAUSAL else {}
    with torch.no_grad():
        own = models.ours(input_ids=given.ids, attention_mask=given.mask)
        other = models.reference(input_ids=given.ids, attention_mask=given.mask, **cache)
    same(own, other, given)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_ours_to_reference(model_type: str, head: str, tmp_path: Path) -> None:
    models = pair(model_type, head)
    models.ours.save_pretrained(tmp_path)
    loaded, info = read_by_reference(models, tmp_path)
    assert_nothing_left(info)
    assert_same_outputs(Pair(loaded, models.ours, head))


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_reference_to_ours(model_type: str, head: str, tmp_path: Path) -> None:
    models = pair(model_type, head)
    models.reference.save_pretrained(tmp_path)
    loaded, info = read_by_us(models, tmp_path)
    assert_nothing_left(info)
    assert not loaded.training
    assert_same_outputs(Pair(models.reference, loaded, head))


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_the_same_file(model_type: str, head: str, tmp_path: Path) -> None:
    """Names, shapes and values of the files are equal."""
    models = pair(model_type, head)
    models.ours.save_pretrained(tmp_path / "ours")
    models.reference.save_pretrained(tmp_path / "reference")
    own = load_file(tmp_path / "ours" / "model.safetensors")
    other = load_file(tmp_path / "reference" / "model.safetensors")
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["architectures"] == [class_name(model_type, head)]
    assert config["dtype"] == "float32"


@pytest.mark.parametrize(("model_type", "head"), heads(*SOME))
def test_shards(model_type: str, head: str, tmp_path: Path) -> None:
    models = pair(model_type, head)
    models.ours.save_pretrained(tmp_path / "ours", max_shard_size="8KB")
    models.reference.save_pretrained(tmp_path / "reference", max_shard_size="8KB")
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1
    assert len(list((tmp_path / "reference").glob("*.safetensors"))) > 1
    loaded, info = read_by_reference(models, tmp_path / "ours")
    assert_nothing_left(info)
    assert_same_outputs(Pair(loaded, models.ours, head))
    loaded, info = read_by_us(models, tmp_path / "reference")
    assert_nothing_left(info)
    assert_same_outputs(Pair(models.reference, loaded, head))


@pytest.mark.parametrize("shard", ["50GB", "8KB"])
@pytest.mark.parametrize(("model_type", "head"), heads(*SOME))
def test_torch_files(model_type: str, head: str, shard: str, tmp_path: Path) -> None:
    models = pair(model_type, head)
    models.ours.save_pretrained(tmp_path, safe_serialization=False, max_shard_size=shard)
    assert not list(tmp_path.glob("*.safetensors"))
    assert len(list(tmp_path.glob("*.bin"))) > (shard == "8KB")
    loaded, info = read_by_reference(models, tmp_path)
    assert_nothing_left(info)
    assert_same_outputs(Pair(loaded, models.ours, head))
    loaded, info = read_by_us(models, tmp_path)
    assert_nothing_left(info)
    assert_same_outputs(Pair(models.reference, loaded, head))


@pytest.mark.parametrize(("model_type", "head"), heads(*SOME))
def test_whole_state_dicts_in_torch_files(model_type: str, head: str, tmp_path: Path) -> None:
    """Older files hold tied tensors twice."""
    models = pair(model_type, head)
    torch.save(models.reference.state_dict(), tmp_path / "pytorch_model.bin")
    models.ours.config.save_pretrained(tmp_path)
    loaded, info = read_by_us(models, tmp_path)
    assert_nothing_left(info)
    assert_same_outputs(Pair(models.reference, loaded, head))


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_state_dicts_in_either_naming(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    expected = models.ours.state_dict()
    for state in (expected, checkpoint_tensors(models.ours), models.reference.state_dict()):
        fresh = ours(model_type, head)
        result = fresh.load_state_dict(state)
        assert (result.missing_keys, result.unexpected_keys) == ([], [])
        found = fresh.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_weights_of_the_bare_model_in_every_head(model_type: str, head: str, tmp_path: Path) -> None:
    """The same keys are missing or left over as in the reference, and every weight that is there is used."""
    base = pair(model_type, "Model")
    models = pair(model_type, head)
    base.reference.save_pretrained(tmp_path)
    loaded, info = read_by_us(models, tmp_path, num_labels=models.ours.config.num_labels)
    expected = read_by_reference(models, tmp_path, num_labels=models.ours.config.num_labels)[1]
    # A tied copy has no name of its own here.
    expected["missing_keys"] -= {models.ours.place(name).copy for name in models.ours.state_dict()}
    assert {name: sorted(info[name]) for name in info} == {name: sorted(expected[name]) for name in info}
    own, file = loaded.base_model.state_dict(), base.ours.state_dict()
    assert all(torch.equal(own[name], file[name]) for name in own)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_weights_of_every_head_in_the_bare_model(model_type: str, head: str, tmp_path: Path) -> None:
    base = pair(model_type, "Model")
    models = pair(model_type, head)
    models.reference.save_pretrained(tmp_path)
    loaded, info = read_by_us(base, tmp_path)
    expected = read_by_reference(base, tmp_path)[1]
    assert {name: sorted(info[name]) for name in info} == {name: sorted(expected[name]) for name in info}
    own, file = loaded.state_dict(), models.ours.base_model.state_dict()
    assert all(torch.equal(own[name], file[name]) for name in own if name in file)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize(("model_type", "head"), vocabulary_heads())
def test_tied_and_untied_embeddings(model_type: str, head: str, tie: bool, tmp_path: Path) -> None:
    models = new_pair(model_type, head, tie_word_embeddings=tie)
    output = models.ours.get_output_embeddings()
    assert (output.weight is models.ours.get_input_embeddings().weight) is tie
    assert_same_outputs(models)
    models.ours.save_pretrained(tmp_path / "ours")
    models.reference.save_pretrained(tmp_path / "reference")
    assert (
        load_file(tmp_path / "ours/model.safetensors").keys()
        == load_file(tmp_path / "reference/model.safetensors").keys()
    )
    loaded, info = read_by_reference(models, tmp_path / "ours")
    assert_nothing_left(info)
    assert_same_outputs(Pair(loaded, models.ours, head))
    loaded, info = read_by_us(models, tmp_path / "reference")
    assert_nothing_left(info)
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) is tie
    assert_same_outputs(Pair(models.reference, loaded, head))


@pytest.mark.parametrize("auto", AUTO_CLASSES)
@pytest.mark.parametrize("model_type", families())
def test_auto_classes_pick_the_same_class(model_type: str, auto: str) -> None:
    config = getattr(formers, FAMILIES[model_type].prefix + "Config")
    mapping = getattr(transformers, auto)._model_mapping
    expected = mapping.get(getattr(transformers, config.__name__), None)
    if (model_type, auto) in OURS_ALONE:
        assert expected is None
    elif expected is None:
        with pytest.raises(formers.errors.ConfigError, match="have no such head"):
            getattr(formers, auto)._class_for(model_type)
    else:
        assert getattr(formers, auto)._class_for(model_type).__name__ == expected.__name__


@pytest.mark.parametrize("model_type", families())
def test_auto_classes_load_files(model_type: str, tmp_path: Path) -> None:
    models = pair(model_type, "ForSequenceClassification")
    models.reference.save_pretrained(tmp_path)
    config = formers.AutoConfig.from_pretrained(tmp_path)
    assert type(config).__name__ == FAMILIES[model_type].prefix + "Config"
    loaded = formers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(models.ours)
    assert_same_outputs(Pair(models.reference, loaded, "ForSequenceClassification"))
    assert type(formers.AutoModel.from_config(config)).__name__ == FAMILIES[model_type].prefix + "Model"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", torch.bfloat16, "auto"])
@pytest.mark.parametrize("argument", ["dtype", "torch_dtype"])
def test_data_types(argument: str, dtype: Any, tmp_path: Path) -> None:
    models = pair("bert", "ForSequenceClassification")
    models.reference.save_pretrained(tmp_path)
    loaded = type(models.ours).from_pretrained(tmp_path, **{argument: dtype})
    expected = type(models.reference).from_pretrained(tmp_path, local_files_only=True, dtype=dtype)
    assert loaded.dtype == expected.dtype
    assert loaded.config.dtype == str(expected.dtype).removeprefix("torch.")
    given = batch(models)
    with torch.no_grad():
        own, other = loaded(given.ids, given.mask).logits, expected(given.ids, given.mask).logits
    assert own.dtype == other.dtype
    close(own.float(), other.float(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("saved", [torch.float16, torch.bfloat16])
def test_data_type_of_the_file(saved: torch.dtype, tmp_path: Path) -> None:
    models = new_pair("bert", "Model")
    models.reference.to(saved).save_pretrained(tmp_path)
    assert formers.AutoModel.from_pretrained(tmp_path).dtype == torch.float32
    loaded = formers.AutoModel.from_pretrained(tmp_path, dtype=saved)
    assert loaded.dtype == saved
    loaded.save_pretrained(tmp_path / "again")
    assert formers.AutoConfig.from_pretrained(tmp_path / "again").dtype == str(saved).removeprefix("torch.")
    assert formers.AutoModel.from_config(loaded.config, dtype=saved).dtype == saved
