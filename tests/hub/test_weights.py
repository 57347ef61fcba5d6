"""Reading and writing weights: formats, shards, replacing an earlier save."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import formers.hub.weights
from formers.errors import InputError, ModelNotFoundError
from formers.hub.atomic import write_bytes, write_text
from formers.hub.files import resolve
from formers.hub.weights import Checkpoint, save_weights


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "encoder.0.weight": torch.randn(6, 5, generator=generator),
        "encoder.0.bias": torch.randn(5, generator=generator).to(torch.bfloat16),
        "encoder.1.weight": torch.randn(4, 3, generator=generator).t(),
        "half": torch.randn(3, generator=generator).half(),
        "double": torch.randn(3, generator=generator).double(),
        "ids": torch.arange(7),
        "mask": torch.tensor([True, False]),
        "int8": torch.tensor([-128, 127], dtype=torch.int8),
        "float8": torch.ones(2).to(torch.float8_e4m3fn),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
    }


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def assert_same(checkpoint: Checkpoint, expected: dict[str, torch.Tensor]) -> None:
    assert sorted(checkpoint.keys()) == sorted(expected)
    for key, tensor in expected.items():
        assert checkpoint.shape(key) == tuple(tensor.shape)
        assert checkpoint.dtype(key) is tensor.dtype
        assert torch.equal(checkpoint.tensor(key), tensor)


FORMATS = {
    "safetensors": {},
    "sharded safetensors": {"max_shard_size": 130},
    "bin": {"safe_serialization": False},
    "sharded bin": {"safe_serialization": False, "max_shard_size": 130},
}


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_round_trip(tmp_path, options, variant):
    written = save_weights(tensors(), tmp_path / "new", variant=variant, **options)
    assert sorted(path.name for path in written) == names(tmp_path / "new")
    files = resolve(tmp_path / "new")
    safe = options.get("safe_serialization", True)
    assert_same(Checkpoint.open(files, variant=variant), tensors())
    assert_same(Checkpoint.open(files, variant=variant, use_safetensors=safe), tensors())
    with pytest.raises(ModelNotFoundError, match="has no weights: looked for"):
        Checkpoint.open(files, variant=variant, use_safetensors=not safe)
    with pytest.raises(ModelNotFoundError, match="has no weights: looked for"):
        Checkpoint.open(files, variant="other")


def test_names_and_index_of_shards(tmp_path):
    weights = {f"w{i}": torch.ones(25) for i in range(5)} | {"large": torch.ones(100)}
    written = save_weights(weights, tmp_path, max_shard_size="0.2KB")
    assert [path.name for path in written] == [
        *(f"model-0000{i}-of-00004.safetensors" for i in range(1, 5)),
        "model.safetensors.index.json",
    ]
    index = json.loads(written[-1].read_text())
    assert index["metadata"]["total_size"] == 900
    first, last = written[0].name, written[3].name
    assert index["weight_map"]["w0"] == index["weight_map"]["w1"] == first
    assert index["weight_map"]["large"] == last
    for path in written[:3]:
        assert sum(tensor.nbytes for tensor in load_file(path).values()) <= 200


@pytest.mark.parametrize(
    ("size", "expected"),
    [(7, 7), ("7", 7), ("5GB", 5 * 10**9), ("5gb", 5 * 10**9), ("1.5 MB", 1_500_000), ("2KiB", 2048), ("1TB", 10**12)],
)
def test_shard_sizes(size, expected):
    assert formers.hub.weights.size_in_bytes("max_shard_size", size) == expected


@pytest.mark.parametrize("size", [0, -5, "", "GB", "5 apples", "-5GB", None, True, "0.1"])
def test_bad_shard_sizes(tmp_path, size):
    with pytest.raises(InputError, match=r"max_shard_size=.* is not a size\. Pass a number of bytes, or text such as"):
        save_weights(tensors(), tmp_path / "new", max_shard_size=size)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("after", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("before", FORMATS.values(), ids=FORMATS)
def test_a_save_replaces_the_earlier_one(tmp_path, before, after):
    others = ["config.json", "model.bin", "model.fp16.safetensors", "my-model-00001-of-00002.safetensors"]
    for name in others:
        write_text(tmp_path / name, "{}")
    save_weights({f"old{i}": torch.ones(20) for i in range(9)}, tmp_path, **before)
    written = save_weights(tensors(), tmp_path, **after)
    assert names(tmp_path) == sorted([*others, *(path.name for path in written)])
    assert_same(Checkpoint.open(resolve(tmp_path)), tensors())


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_a_failed_save_leaves_the_earlier_one(tmp_path, monkeypatch, options):
    save_weights({"old": torch.ones(3)}, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    write, calls = formers.hub.weights._write, []

    def failing(path: Path, *args: object) -> None:
        calls.append(path)
        write(path, *args)
        if len(calls) == (3 if "max_shard_size" in options else 1):
            raise OSError("No space left on device")

    monkeypatch.setattr(formers.hub.weights, "_write", failing)
    with pytest.raises(OSError, match="No space left"):
        save_weights(tensors(), tmp_path, **options)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_loaded_weights_can_be_saved_over_their_own_files(tmp_path, options):
    save_weights(tensors(), tmp_path, **options)
    loaded = Checkpoint.open(resolve(tmp_path))
    save_weights({key: loaded.tensor(key) for key in tensors()}, tmp_path, **options)
    assert_same(loaded, tensors())
    assert_same(Checkpoint.open(resolve(tmp_path)), tensors())


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_writing_to_a_loaded_tensor_leaves_the_file(tmp_path, options):
    save_weights(tensors(), tmp_path, **options)
    Checkpoint.open(resolve(tmp_path)).tensor("ids").fill_(-1)
    assert_same(Checkpoint.open(resolve(tmp_path)), tensors())


def test_order_of_preference(tmp_path):
    for expected in ("sharded bin", "bin", "sharded safetensors", "safetensors"):
        source = tmp_path / expected
        save_weights({expected: torch.ones(40), "x": torch.ones(40)}, source, **FORMATS[expected])
        for path in source.iterdir():
            write_bytes(tmp_path / path.name, path.read_bytes())
        assert set(Checkpoint.open(resolve(tmp_path)).keys()) == {expected, "x"}


def test_no_weights(tmp_path):
    expected = (
        "looked for model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json"
    )
    with pytest.raises(ModelNotFoundError, match=expected):
        Checkpoint.open(resolve(tmp_path))


def test_views_are_written_alone(tmp_path):
    fused = torch.arange(300_000.0)
    parts = {"q": fused[:10], "k": fused[10:20]}
    for safe in (True, False):
        (path,) = save_weights(parts, tmp_path, safe_serialization=safe)
        assert path.stat().st_size < 10_000
        assert_same(Checkpoint.open(resolve(tmp_path)), parts)


def test_tied_weights_are_for_the_caller(tmp_path):
    weight = torch.ones(3)
    with pytest.raises(InputError, match=r"'a' and 'b' share their memory.*under one name only"):
        save_weights({"a": weight, "b": weight}, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    save_weights({"a": weight, "b": weight}, tmp_path / "new", safe_serialization=False)


@pytest.mark.parametrize("tensor", [torch.empty(2, device="meta"), torch.ones(2).to_sparse()], ids=["meta", "sparse"])
def test_weights_without_values(tmp_path, tensor):
    with pytest.raises(InputError, match="without dense values cannot be saved: w"):
        save_weights({"w": tensor}, tmp_path)


def test_parameters(tmp_path):
    save_weights({"w": torch.nn.Parameter(torch.ones(2))}, tmp_path)
    assert not Checkpoint.open(resolve(tmp_path)).tensor("w").requires_grad


def test_transformers_reads_what_we_write_and_the_other_way_round(tmp_path):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=50, **sizes))
    expected = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    for index, size in enumerate(("50GB", "5KB")):
        theirs = tmp_path / f"theirs{index}"
        model.save_pretrained(theirs, max_shard_size=size)
        assert len(names(theirs)) > 5 or size == "50GB"
        read = Checkpoint.open(resolve(theirs))
        assert_same(read, {key: tensor for key, tensor in expected.items() if "position_ids" not in key})
        for safe in (True, False):
            ours = tmp_path / f"ours{index}{safe}"
            save_weights(expected, ours, max_shard_size=size, safe_serialization=safe)
            model.config.save_pretrained(ours)
            again = BertModel.from_pretrained(ours, use_safetensors=safe).state_dict()
            assert all(torch.equal(again[key], expected[key]) for key in expected)


MEMORY = """
import sys
from pathlib import Path
import psutil, safetensors.torch, torch
from formers.hub.files import resolve
from formers.hub.weights import Checkpoint
folder = Path(sys.argv[1])
memory = psutil.Process().memory_info
torch.ones(10).sum()
before = memory().rss
checkpoint = Checkpoint.open(resolve(folder))
loaded = [checkpoint.tensor(key) for key in checkpoint.keys()]
assert sum(float(tensor.sum()) for tensor in loaded) > 0
size = sum(path.stat().st_size for path in folder.iterdir())
growth = (memory().rss - before) / size
assert 0.5 < growth < 1.2, growth
"""


@pytest.mark.parametrize("safe", [True, False])
def test_loading_makes_no_second_copy_in_memory(tmp_path, safe):
    """With every page of a 200 MB file touched, the process has grown by little more than the file."""
    weights = {f"w{i}": torch.ones(5_000_000) for i in range(10)}
    save_weights(weights, tmp_path, max_shard_size="100MB", safe_serialization=safe)
    env = os.environ | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], check=True, env=env)


def test_an_unknown_name(tmp_path):
    save_weights(tensors(), tmp_path)
    with pytest.raises(KeyError):
        Checkpoint.open(resolve(tmp_path)).tensor("none")


def test_weights_that_the_index_forgot_are_read(tmp_path):
    *_, index = save_weights({"a": torch.ones(40), "b": torch.zeros(40)}, tmp_path, max_shard_size=200)
    value = json.loads(index.read_text())
    shard = tmp_path / value["weight_map"]["a"]
    save_weights({"a": torch.ones(40), "c": torch.ones(2)}, tmp_path / "other")
    write_bytes(shard, (tmp_path / "other" / "model.safetensors").read_bytes())
    assert sorted(Checkpoint.open(resolve(tmp_path)).keys()) == ["a", "b", "c"]


def test_the_index_says_which_shard_holds_a_weight(tmp_path):
    *_, index = save_weights({"a": torch.ones(40), "b": torch.zeros(40)}, tmp_path, max_shard_size=200)
    value = json.loads(index.read_text())
    save_weights({"a": torch.ones(40), "b": torch.ones(40)}, tmp_path / "other")
    write_bytes(tmp_path / value["weight_map"]["a"], (tmp_path / "other" / "model.safetensors").read_bytes())
    assert not Checkpoint.open(resolve(tmp_path)).tensor("b").any()
