"""Generation of every encoder–decoder in the registry: token for token the reference's, ragged sources included."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional as F

import formers
from formers.generation import generate
from formers.registry import FAMILIES

# Sizes and special tokens under every name that some family has for them.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("num_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_heads", "encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("max_position_embeddings", "max_target_positions"), 40),
    "vocab_size": 61,
    "d_model": 32,
    "d_kv": 8,
    "init_std": 0.3,
    "num_mel_bins": 6,
    "max_source_positions": 10,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": None,
}
PAD, END, START = 1, 2, 3
WRITES = ("ForConditionalGeneration", "MTModel", "EncoderDecoderModel")
SOURCES = [[9, 4, 17, 5, 30, 2], [12, 50, 2], [8, 2], [33, 7, 21, 2]]
IDS = torch.tensor([row + [PAD] * (6 - len(row)) for row in SOURCES])
MASK = (IDS != PAD).long()
PROMPTS = torch.tensor([[START, 5, 8], [START, 6, 7], [START, START, 4], [START, 9, 9]])

GREEDY: dict[str, dict[str, Any]] = {
    "plain": {},
    "penalties": {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "bad_words_ids": [[4], [5, 6]]},
    "of the source": {"encoder_no_repeat_ngram_size": 2, "encoder_repetition_penalty": 1.5},
    "forced": {"forced_bos_token_id": 7, "forced_eos_token_id": END, "max_length": 9},
    "lengths": {"min_length": 7, "max_length": 12, "eos_token_id": [END, 11, 19, 23, 31, 41, 47]},
    "new lengths": {"min_new_tokens": 5, "max_new_tokens": 8, "eos_token_id": [END, *range(4, 40)]},
    "default length": {},
    "starts": {"decoder_start_token_id": [3, 4, 5, 6]},
    "prompts": {"decoder_input_ids": PROMPTS, "decoder_attention_mask": torch.ones_like(PROMPTS)},
    "prompts without a start": {"decoder_input_ids": torch.tensor([[5, 6]] * 4)},
    "no cache": {"use_cache": False},
}
BEAMS: dict[str, dict[str, Any]] = {
    "plain": {"num_beams": 3},
    "several": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 2.0},
    "early": {"num_beams": 3, "early_stopping": True, "length_penalty": 0.4, "eos_token_id": [END, *range(4, 16)]},
    "never": {"num_beams": 3, "early_stopping": "never", "eos_token_id": [END, *range(4, 16)]},
    "ngrams": {"num_beams": 2, "no_repeat_ngram_size": 2, "encoder_no_repeat_ngram_size": 2},
    "forced": {"num_beams": 3, "forced_bos_token_id": 7, "forced_eos_token_id": END, "max_length": 9},
    "prompts": {"num_beams": 3, "decoder_input_ids": PROMPTS},
    "no cache": {"num_beams": 2, "use_cache": False},
}


def writers() -> list[Any]:
    """Every model type that reads with an encoder and writes."""
    return [pytest.param(name, id=name) for name, family in FAMILIES.items() if set(WRITES) & set(family.heads)]


def settings_of(model_type: str) -> Any:
    """A tiny configuration of the reference."""
    own: Any = transformers.CONFIG_MAPPING[model_type]
    if model_type == "encoder-decoder":
        common: dict[str, Any] = {"vocab_size": 61, "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": 0}
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        encoder = transformers.BertConfig(**common, **sizes, initializer_range=0.3)
        decoder = transformers.GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=40)
        decoder.initializer_range = 0.3
        return own.from_encoder_decoder_configs(encoder, decoder, decoder_start_token_id=START, pad_token_id=PAD)
    known = set(own().to_dict()) | set(own.attribute_map)
    return own(**{name: value for name, value in SIZES.items() if name in known})


@cache
def pair(model_type: str) -> tuple[Any, Any]:
    """A tiny random model of the reference, and the same one here."""
    family = FAMILIES[model_type]
    name = family.class_name(next(head for head in WRITES if head in family.heads))
    transformers.set_seed(3)
    theirs = getattr(transformers, name)(settings_of(model_type)).eval()
    theirs.generation_config = transformers.GenerationConfig(
        pad_token_id=PAD, eos_token_id=END, bos_token_id=0, decoder_start_token_id=START
    )
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, getattr(formers, name).from_pretrained(folder)


def sources(model: Any) -> dict[str, Any]:
    """What the encoder reads: ids with padding, or features."""
    if getattr(model, "main_input_name", "input_ids") == "input_features":
        generator = torch.Generator().manual_seed(0)
        return {"input_features": torch.randn(4, 6, 20, generator=generator)}
    return {"input_ids": IDS, "attention_mask": MASK}


def both(model_type: str, settings: dict[str, Any], length: int = 12) -> tuple[Any, Any]:
    """What both make of the sources."""
    theirs, mine = pair(model_type)
    if "max_length" not in settings and length:
        settings = {"max_new_tokens": length, **settings}
    given = sources(mine)
    # Some models' own methods do more than the general one, which is compared here.
    wanted = transformers.GenerationMixin.generate(theirs, **given, **settings)
    return generate(mine, **given, **settings), wanted


def same(mine: torch.Tensor, wanted: torch.Tensor) -> None:
    width = max(mine.shape[1], wanted.shape[1])
    mine, wanted = (F.pad(t, (0, width - t.shape[1]), value=PAD) for t in (mine, wanted))
    assert mine.tolist() == wanted.tolist()


def applies(model_type: str, settings: dict[str, Any]) -> None:
    if "input_ids" not in sources(pair(model_type)[1]) and any(name.startswith("encoder_") for name in settings):
        pytest.skip("reads no ids")


@pytest.mark.parametrize("model_type", writers())
@pytest.mark.parametrize("case", GREEDY)
def test_greedy_is_the_references(model_type: str, case: str) -> None:
    settings = GREEDY[case]
    applies(model_type, settings)
    same(*both(model_type, settings, 0 if case == "default length" else 12))


@pytest.mark.parametrize("model_type", writers())
@pytest.mark.parametrize("case", BEAMS)
def test_beams_are_the_references(model_type: str, case: str) -> None:
    settings = BEAMS[case]
    applies(model_type, settings)
    same(*both(model_type, settings))


@pytest.mark.parametrize("model_type", writers())
@pytest.mark.parametrize("beams", [1, 3])
def test_what_is_returned(model_type: str, beams: int) -> None:
    names = ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states")
    settings: dict[str, Any] = {**dict.fromkeys(names, True), "max_new_tokens": 4, "num_beams": beams}
    theirs, ours = pair(model_type)
    for model in (theirs, ours):
        model.set_attn_implementation("eager")
    mine, wanted = both(model_type, settings)
    assert type(mine).__name__ == type(wanted).__name__
    assert set(mine.keys()) == set(wanted.keys())
    same(mine.sequences, wanted.sequences)
    for name in sorted(set(wanted.keys()) - {"sequences", "past_key_values", "beam_indices"}):
        a, b = mine[name], wanted[name]
        if name.startswith("encoder_"):
            # The first source is the longest: no padding, whose values are of no consequence, among its states.
            a, b = [t[:1] for t in a], [t[:1] for t in b]
        elif name in ("scores", "logits", "decoder_hidden_states", "decoder_attentions", "cross_attentions"):
            a, b = a[:2], b[:2]
        torch.testing.assert_close(a, b if isinstance(a, torch.Tensor) else type(a)(b), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model_type", writers())
def test_other_ways_to_give_the_source(model_type: str) -> None:
    _, model = pair(model_type)
    given = sources(model)
    wanted = generate(model, **given, max_new_tokens=8)
    encoded = model.get_encoder()(**given)
    mask = given.get("attention_mask")
    assert torch.equal(generate(model, encoder_outputs=encoded, attention_mask=mask, max_new_tokens=8), wanted)
    assert torch.equal(generate(model, encoder_outputs=(encoded[0],), attention_mask=mask, max_new_tokens=8), wanted)
    single = {name: value[:1] for name, value in given.items()}
    alone = generate(model, **single, max_new_tokens=8)
    same(alone, generate(model, **single, max_new_tokens=8, prompt_lookup_num_tokens=3))
    same(alone, generate(model, **single, max_new_tokens=8, assistant_model=model))
    if "input_ids" in given:
        embeds = model.get_encoder().get_input_embeddings()(IDS)
        found = generate(model, inputs_embeds=embeds, attention_mask=MASK, max_new_tokens=8)
        theirs, _ = pair(model_type)
        other = theirs.get_encoder().get_input_embeddings()(IDS)
        same(found, theirs.generate(inputs_embeds=other, attention_mask=MASK, max_new_tokens=8))


@pytest.mark.parametrize("model_type", writers())
@pytest.mark.parametrize("beams", [1, 3])
def test_prompts_of_unequal_lengths_go_on_as_they_do_alone(model_type: str, beams: int) -> None:
    theirs, model = pair(model_type)
    given, settings = sources(model), {"max_new_tokens": 8, "num_beams": beams}
    prompts = [[START, 5], [START, 6, 7, 8], [START], [START, 9, 9]]
    made = generate(model, **given, decoder_input_ids=prompts, **settings)
    for row, prompt in enumerate(prompts):
        alone = {name: value[row : row + 1] for name, value in given.items()}
        start = torch.tensor([prompt])
        wanted = transformers.GenerationMixin.generate(theirs, **alone, decoder_input_ids=start, **settings)
        same(made[row : row + 1, 4 - len(prompt) :], wanted)


@pytest.mark.parametrize("model_type", writers())
def test_rows_draw_as_they_do_alone(model_type: str) -> None:
    _, model = pair(model_type)
    given = sources(model)
    settings: dict[str, Any] = {"do_sample": True, "seed": 5, "max_new_tokens": 8, "num_return_sequences": 2}
    together = generate(model, **given, **settings)
    alone = generate(model, **{name: value[1:2] for name, value in given.items()}, **settings)
    same(alone, together[2:4])


@pytest.mark.parametrize("model_type", writers())
def test_the_models_own_settings_are_kept(model_type: str, tmp_path: Path) -> None:
    _, model = pair(model_type)
    given = sources(model)
    wanted = generate(model, **given, num_beams=2, forced_bos_token_id=7, max_length=8)
    model.save_pretrained(tmp_path)
    config = formers.GenerationConfig(**model.generation_config.set_values(), num_beams=2, max_length=8)
    config.forced_bos_token_id = 7
    config.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert torch.equal(generate(again, **given), wanted)
