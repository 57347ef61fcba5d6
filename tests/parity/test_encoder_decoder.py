"""An encoder and a decoder of different families as one model, against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import formers
from formers.errors import ConfigError, InputError
from tests.parity.pairs import close, scramble

BERT = {"vocab_size": 50, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
GPT2 = {"vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 40}
IDS = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])
LABELS = torch.randint(2, 61, (3, 5), generator=torch.Generator().manual_seed(2))


def reference(width: int, family: str = "gpt2", **values: Any) -> Any:
    encoder = transformers.BertConfig(**BERT, hidden_size=width, max_position_embeddings=40)
    decoder: Any = transformers.GPT2Config(**GPT2, **values)
    if family == "bert":
        sizes = {**BERT, "vocab_size": 61, "hidden_size": 24, "max_position_embeddings": 40}
        decoder = transformers.BertConfig(**sizes, **values)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        encoder, decoder, pad_token_id=0, decoder_start_token_id=1
    )
    config._attn_implementation = "eager"
    model = transformers.EncoderDecoderModel(config)
    scramble(model, 0)
    return model.eval()


@pytest.mark.parametrize("family", ["gpt2", "bert"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("width", [24, 32])
def test_outputs_and_files(width: int, tied: bool, family: str, tmp_path: Path) -> None:
    theirs = reference(width, family, tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path / "reference")
    own, info = formers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "reference", output_loading_info=True)
    assert {name: found for name, found in info.items() if found} == {}
    assert (own.get_output_embeddings().weight is own.get_decoder().get_input_embeddings().weight) is tied
    found = own(IDS, MASK, labels=LABELS)
    expected = theirs(IDS, attention_mask=MASK, labels=LABELS)
    close(found.logits, expected.logits)
    close(found.loss, expected.loss)
    found.loss.backward()
    expected.loss.backward()
    weight = theirs.encoder.get_input_embeddings().weight.grad
    close(own.get_input_embeddings().weight.grad, weight, atol=2e-5)
    own.save_pretrained(tmp_path / "ours")
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("ours", "reference")]
    assert files[0].keys() == files[1].keys()
    # Where nothing is tied the reference's head has a second bias, which it does not use.
    used = [name for name in files[0] if tied or name != "decoder.cls.predictions.bias"]
    assert all(torch.equal(files[0][name], files[1][name]) for name in used)
    loaded, info = transformers.EncoderDecoderModel.from_pretrained(
        tmp_path / "ours", output_loading_info=True, local_files_only=True
    )
    assert {name: found for name, found in info.items() if found} == {}
    with torch.no_grad():
        close(loaded.eval()(IDS, attention_mask=MASK, labels=LABELS).logits, expected.logits.detach())


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_the_cache_holds_what_was_read(family: str, tmp_path: Path) -> None:
    theirs = reference(32, family)
    theirs.save_pretrained(tmp_path)
    own, held = formers.EncoderDecoderModel.from_pretrained(tmp_path).for_inference(), None
    expected = theirs(IDS, attention_mask=MASK, decoder_input_ids=LABELS).logits
    found = []
    for place in range(LABELS.shape[1]):
        source = {"input_ids": IDS, "attention_mask": MASK} if held is None else {}
        out = own(**source, decoder_input_ids=LABELS[:, place : place + 1], past_key_values=held, use_cache=True)
        held = out.past_key_values
        found.append(out.logits)
    close(torch.cat(found, dim=1), expected)


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_generation(family: str, beams: int, tmp_path: Path) -> None:
    theirs = reference(32, family)
    theirs.save_pretrained(tmp_path)
    own = formers.EncoderDecoderModel.from_pretrained(tmp_path).for_inference()
    settings = {"max_new_tokens": 12, "do_sample": False, "num_beams": beams, "no_repeat_ngram_size": 1}
    expected = theirs.generate(IDS, attention_mask=MASK, **settings)
    found = own.generate(IDS, attention_mask=MASK, **settings)
    assert found.tolist() == expected.tolist()


@torch.no_grad()
@pytest.mark.parametrize("head", ["Model", "ForMaskedLM", "ForPreTraining"])
def test_made_of_two_berts(head: str, tmp_path: Path) -> None:
    config = transformers.BertConfig(**BERT, hidden_size=32, max_position_embeddings=40)
    for name, kind in (("encoder", "Model"), ("decoder", head)):
        transformers.set_seed(len(name + kind))
        getattr(transformers, f"Bert{kind}")(config).save_pretrained(tmp_path / name)
    names = tmp_path / "encoder", tmp_path / "decoder"
    theirs = transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(*names)
    mine = formers.EncoderDecoderModel.from_encoder_decoder_pretrained(*names, pad_token_id=0, decoder_start_token_id=1)
    mine.save_pretrained(tmp_path / "mine")
    theirs.save_pretrained(tmp_path / "theirs")
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("mine", "theirs"))
    assert found.keys() == expected.keys()
    # Cross-attention is new in both, and so is the head of what had none.
    new = ("crossattention", "cls.predictions") if head == "Model" else ("crossattention",)
    old = [name for name in found if not any(part in name for part in new)]
    assert all(torch.equal(found[name], expected[name]) for name in old)
    assert mine(IDS, MASK, labels=LABELS.clamp(max=49)).loss.isfinite()
    assert mine.generate(IDS, attention_mask=MASK, max_new_tokens=4).shape[0] == 3
    changed = formers.EncoderDecoderModel.from_encoder_decoder_pretrained(
        *names, decoder_hidden_dropout_prob=0.3, encoder_num_hidden_layers=1, decoder_start_token_id=1
    ).config
    assert (changed.decoder.hidden_dropout_prob, changed.encoder.hidden_dropout_prob) == (0.3, 0.1)
    assert (changed.encoder.num_hidden_layers, changed.decoder_start_token_id) == (1, 1)
    with pytest.raises(InputError, match=r"encoder_model= was given\. Save it"):
        formers.EncoderDecoderModel.from_encoder_decoder_pretrained(*names, encoder_model=mine)


@torch.no_grad()
def test_made_of_two_models(tmp_path: Path) -> None:
    encoder = formers.BertModel(formers.BertConfig(**BERT, hidden_size=32, max_position_embeddings=40))
    decoder = formers.GPT2LMHeadModel(formers.GPT2Config(**GPT2))
    encoder.save_pretrained(tmp_path / "encoder")
    decoder.save_pretrained(tmp_path / "decoder")
    model = formers.EncoderDecoderModel.from_encoder_decoder_pretrained(
        tmp_path / "encoder", tmp_path / "decoder", pad_token_id=0, decoder_start_token_id=1
    )
    close(model.get_encoder()(IDS).last_hidden_state, encoder.eval()(IDS).last_hidden_state)
    own, given = model.get_decoder().state_dict(), decoder.model.state_dict()
    assert all(torch.equal(own[name], given[name]) for name in given)
    assert model(IDS, MASK, labels=LABELS).loss.isfinite()
    assert model.config.decoder.add_cross_attention


def test_decoders_without_cross_attention_are_refused() -> None:
    halves = formers.BertConfig(**BERT, hidden_size=24), formers.LlamaConfig()
    config = formers.EncoderDecoderConfig.from_encoder_decoder_configs(*halves)
    with pytest.raises(ConfigError, match=r"'llama' decoder has no cross-attention.*BERT or GPT-2"):
        formers.EncoderDecoderModel(config)
