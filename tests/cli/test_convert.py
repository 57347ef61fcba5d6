"""`formers convert`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

gguf = pytest.importorskip("gguf")

from tests.hub.gguf_models import file_tensors, tiny, write  # noqa: E402


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model of the reference, and a folder with it as GGUF, its tokenizer inside."""
    folder = tmp_path_factory.mktemp("llama")
    model = tiny("llama")

    def tokenizer(writer: Any) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["<|end|>", "<s>", "</s>", "a", "b", "ab"])
        writer.add_token_types([3, 3, 3, 1, 1, 1])
        writer.add_token_merges(["a b"])

    write(folder / "m.gguf", "llama", model.config, file_tensors(model, folder / "reference"), extra=tokenizer)
    return model, folder


def test_gguf_becomes_what_the_reference_loads(invoke: Callable[..., Any], llama: Any, tmp_path: Path) -> None:
    model, folder = llama
    result = invoke("convert", folder / "m.gguf", tmp_path / "new")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'new'}\n")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "new").eval()
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids).logits)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "new")("ab<|end|>")["input_ids"] == [5, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_types_and_shards(invoke: Callable[..., Any], llama: Any, tmp_path: Path) -> None:
    result = invoke("convert", llama[1], tmp_path / "new", "--dtype", "bfloat16", "--max-shard-size", "20KB")
    assert result.exit_code == 0
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == "bfloat16"
    shards = sorted((tmp_path / "new").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert {tensor.dtype for tensor in load_file(shards[0]).values()} == {torch.bfloat16}


def test_bin_with_shared_tensors(invoke: Callable[..., Any], tmp_path: Path) -> None:
    old, shared = tmp_path / "old", torch.randn(3, 4)
    old.mkdir()
    torch.save({"a.weight": shared, "b.weight": shared, "n": torch.arange(3)}, old / "pytorch_model.bin")
    (old / "config.json").write_text(json.dumps({"model_type": "whatever", "torch_dtype": "float32"}))
    (old / "vocab.txt").write_text("a\n")
    assert invoke("convert", old, tmp_path / "new").exit_code == 0
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    assert torch.equal(tensors["a.weight"], shared)
    assert torch.equal(tensors["b.weight"], shared)
    assert json.loads((tmp_path / "new" / "config.json").read_text()) == {"model_type": "whatever", "dtype": "float32"}
    assert (tmp_path / "new" / "vocab.txt").read_text() == "a\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{llama}", "{llama}"], "exists and is not empty. Give the path of a new folder"),
        (["{llama}", "{new}", "--dtype", "int3"], "--dtype int3 is unknown. Use one of float32"),
        (["{llama}", "{new}", "--gguf-file", "other.gguf"], "has no file 'other.gguf'"),
        (["{llama}", "{new}", "--max-shard-size", "much"], "is not a size"),
    ],
)
def test_errors_leave_nothing_behind(
    invoke: Callable[..., Any], llama: Any, tmp_path: Path, arguments: list[str], words: str
) -> None:
    given = [each.format(llama=llama[1], new=tmp_path / "new") for each in arguments]
    result = invoke("convert", *given)
    assert result.exit_code == 1
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []
