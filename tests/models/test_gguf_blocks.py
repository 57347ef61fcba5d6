"""Quantized models keep their blocks: each matrix's are its own, and few tokens are computed with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("gguf")
pytest.importorskip("numba")

import gguf

import formers
from formers.layers.linear import Compact
from formers.registry import FAMILIES
from tests.hub.gguf_models import MODELS, file_tensors, tiny, write

CASES = [case for case in MODELS if case.partition("-")[0] in FAMILIES]


def loaded(case: str, folder: Path, kind: str = "Q8_0") -> formers.PreTrainedModel:
    model = tiny(case)
    tensors = file_tensors(model, folder / "reference")
    write(folder / "model.gguf", case, model.config, tensors, quantization=gguf.GGMLQuantizationType[kind])
    return formers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("case", CASES)
def test_blocks_are_those_of_the_parameter(case: str, tmp_path: Path) -> None:
    """Reordered rows, parts of fused tensors and experts included."""
    model = loaded(case, tmp_path)
    assert model.blocks or case == "gpt2"  # whose matrices are transposed
    for name, stored in model.blocks.items():
        parameter = model.get_parameter(name)
        blocks = stored.blocks
        values = gguf.quants.dequantize(blocks.data.numpy(), gguf.GGMLQuantizationType(blocks.kind))
        assert torch.equal(torch.from_numpy(values).view(blocks.shape), parameter.detach()), name
        assert stored.current(parameter)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("case", ["llama-biased", "phi3", "qwen2"])
def test_few_tokens_are_computed_with_them(
    case: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(case, tmp_path, kind)
    ids = torch.arange(3, 11)[None]
    with torch.no_grad():
        expected = model(ids).logits
        calls = 0
        real = Compact.__call__

        def counted(self: Compact, x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            return real(self, x)

        monkeypatch.setattr(Compact, "__call__", counted)
        torch.testing.assert_close(model.for_inference()(ids).logits, expected, rtol=1e-4, atol=1e-5)
        # Two layers with products of queries, keys and values, of the output, of gate and input, and back; the head.
        # Blocks without biases of the feed-forward layer are one compiled call.
        assert calls == (9 if case == "llama-biased" else 1)


def test_generate_prepares_by_itself_and_says_the_same(tmp_path: Path) -> None:
    model = loaded("llama", tmp_path)
    settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    ids = torch.arange(3, 9)[None]
    text = model.train().generate(ids, **settings)
    assert model.head.output.compact is None
    assert torch.equal(model.eval().generate(ids, **settings), text)
    prepared = model.head.output.compact
    assert prepared is not None
    model.generate(ids, **settings)
    assert model.head.output.compact is prepared


def test_half_precision_keeps_none(tmp_path: Path) -> None:
    loaded("llama", tmp_path)
    assert not formers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).blocks


def test_training_ends_it(tmp_path: Path) -> None:
    model = loaded("llama", tmp_path).for_inference()
    ids = torch.arange(3, 9)[None]
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        few = model(ids).logits
        many = model(ids.repeat(8, 1)).logits[:1]
    torch.testing.assert_close(few, many, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model.for_inference()(ids).logits, many, rtol=1e-4, atol=1e-5)
