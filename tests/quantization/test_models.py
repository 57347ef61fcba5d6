"""Models loaded with quantize=: near the original, saved and loaded as they are, and clear about what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from formers import AutoModelForCausalLM, AutoModelForSequenceClassification, T5Config, T5ForConditionalGeneration
from formers.errors import CheckpointError, InputError, UnsupportedError
from formers.layers.int8 import Int8Linear, per_row

IDS = torch.tensor([[5, 7, 2, 61, 8, 3], [9, 1, 44, 20, 8, 2]])


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


@pytest.mark.parametrize(("choice", "near"), [("int8", 0.02), ("int4", 0.2)])
def test_a_decoder_stays_near_the_original(decoder: Path, choice: str, near: float) -> None:
    exact = logits(AutoModelForCausalLM.from_pretrained(decoder))
    found = logits(AutoModelForCausalLM.from_pretrained(decoder, quantize=choice))
    assert 0 < (found - exact).norm() / exact.norm() < near


@pytest.mark.parametrize("choice", ["int8", "int4"])
def test_steps_from_blocks_agree_with_the_float_parameters(decoder: Path, choice: str) -> None:
    plain = AutoModelForCausalLM.from_pretrained(decoder, quantize=choice)
    expected = logits(plain)
    ready = AutoModelForCausalLM.from_pretrained(decoder, quantize=choice).for_inference()
    torch.testing.assert_close(logits(ready), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("choice", ["int8", "int4"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_decoder_is_saved_and_loaded_as_it_is(decoder: Path, tmp_path: Path, choice: str, packed: bool) -> None:
    model = AutoModelForCausalLM.from_pretrained(decoder, quantize=choice)
    expected = logits(model)
    if packed:
        model.for_inference()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    bits = {"int8": 8, "int4": 4}[choice]
    assert config["quantization_config"] == {"quant_method": "formers", "bits": bits, "group_size": 32}
    stored = load_file(tmp_path / "model.safetensors")
    assert any(tensor.dtype is torch.uint8 for tensor in stored.values())
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.quantization == model.quantization
    assert torch.equal(logits(again), expected)
    assert again.blocks.keys() == model.blocks.keys()


def test_the_vocabulary_keeps_8_bits(decoder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(decoder, quantize="int4")
    assert model.quantization is not None
    kinds = model.quantization.kinds(model)
    output = {name: bits for name, bits in kinds.items() if "layers" not in name}
    assert list(output.values()) == [8]
    assert {bits for name, bits in kinds.items() if "layers" in name} == {4}


def test_a_changed_parameter_is_quantized_anew(decoder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(decoder, quantize="int8")
    name = next(name for name in model.blocks if "layers.0" in name)
    with torch.no_grad():
        model.get_parameter(name).mul_(1.5)
    expected = logits(model)
    model.save_pretrained(tmp_path)
    found = logits(AutoModelForCausalLM.from_pretrained(tmp_path))
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_an_encoder_computes_with_integers(encoder: Path) -> None:
    exact = AutoModelForSequenceClassification.from_pretrained(encoder)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, quantize="int8")
    assert sum(isinstance(module, Int8Linear) for module in model.modules()) == 12
    assert model.get_memory_footprint() < exact.get_memory_footprint()
    torch.testing.assert_close(logits(model), logits(exact), rtol=0.05, atol=0.01)


def test_an_encoder_is_saved_and_loaded_as_it_is(encoder: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(encoder, quantize="int8").for_inference()
    expected = logits(model)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["quantization_config"] == {"quant_method": "formers", "bits": 8, "group_size": -1}
    again, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(logits(again), expected, rtol=1e-4, atol=1e-5)
    for left, right in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_products_of_integers_agree_with_the_reference(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = Int8Linear(75, 33, bias)
    with torch.no_grad():
        codes, scale = per_row(torch.randn(33, 75))
        layer.weight.copy_(codes)
        layer.weight_scale.copy_(scale)
        if layer.bias is not None:
            layer.bias.normal_()
        x = torch.randn(rows, 75)
        expected = layer.reference(x)
        # An input is off by at most half a step, as is each of the 75 products.
        step = (x.max().clamp(min=0) - x.min().clamp(max=0)) / 127
        bound = step * (layer.weight.float() * layer.weight_scale[:, None]).abs().sum(1)
        assert bool(((layer(x) - expected).abs() <= bound).all())


def test_what_a_quantized_model_refuses(decoder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(decoder, quantize="int8")
    with pytest.raises(InputError, match="cannot be trained"):
        model.train()
    with pytest.raises(InputError, match="cannot be trained"):
        model.for_training()
    for move in (model.half, model.bfloat16, lambda: model.to(torch.float64), lambda: model.to("meta")):
        with pytest.raises(InputError, match="cannot be brought to"):
            move()
    with pytest.raises(InputError, match="cannot take other weights"):
        model.load_state_dict(model.state_dict())
    assert model.to("cpu") is model
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int3"}, "quantize='int3' is unknown"),
        ({"quantize": "int8", "dtype": "bfloat16"}, "computes in float32"),
        ({"quantize": "int8", "device_map": {"": "cpu"}}, "run on the CPU, in one place"),
    ],
)
def test_arguments_that_do_not_go_together(decoder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoModelForCausalLM.from_pretrained(decoder, **options)


def test_bits_of_a_file_and_of_the_call_must_agree(decoder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(decoder, quantize="int8")
    with pytest.raises(InputError, match="The model is quantized"):
        model.save_pretrained(tmp_path, save_quantized="int8")
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="stored with 8 bits"):
        AutoModelForCausalLM.from_pretrained(tmp_path, quantize="int4")
    assert AutoModelForCausalLM.from_pretrained(tmp_path, quantize="int8").quantization == model.quantization
    described = json.loads((tmp_path / "config.json").read_text())
    described["quantization_config"]["bits"] = 5
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="asks for 5 bits"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_encoders_have_no_4_bits(encoder: Path) -> None:
    with pytest.raises(InputError, match="with 4 bits"):
        AutoModelForSequenceClassification.from_pretrained(encoder, quantize="int4")


def test_what_is_missing_cannot_be_quantized(encoder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no fitting 'bert\.encoder\.layer\.2\."):
        AutoModelForSequenceClassification.from_pretrained(encoder, quantize="int8", num_hidden_layers=3)


def test_models_of_both_halves_are_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="cannot be quantized"):
        T5ForConditionalGeneration.from_pretrained(tmp_path, quantize="int8")
