"""Encoder–decoders: sources, prompts of the decoder, and what is refused, on a toy."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

import formers
from formers.errors import InputError, UnsupportedError
from formers.generation import generate, stream
from formers.outputs import BaseModelOutput
from tests.generation.toy import Toy, ToyPair

SOURCES = [[5, 6, 7, 3], [8, 9, 3], [10, 3], [11, 12, 13, 14, 3]]
WIDTH = 5
IDS = torch.tensor([row + [0] * (WIDTH - len(row)) for row in SOURCES])
MASK = (IDS != 0).long()


def toy(**config: Any) -> ToyPair:
    return ToyPair(eos=3, pad_token_id=0, decoder_start_token_id=0, **config)


def trimmed(row: list[int]) -> list[int]:
    """What a row holds after its start token, up to its end."""
    return row[1 : row.index(3) + 1] if 3 in row else row[1:]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3, "early_stopping": True},
        {"do_sample": True, "seed": 7},
        {"use_cache": False},
        {"num_beams": 2, "use_cache": False},
    ],
    ids=str,
)
def test_rows_are_as_they_are_alone(settings: dict[str, Any]) -> None:
    model = toy()
    together = generate(model, IDS, attention_mask=MASK, max_new_tokens=60, **settings)
    assert model.encoded == 1
    if settings.get("use_cache") is None:
        assert model.calls[-1] < len(SOURCES) * settings.get("num_beams", 1), "finished rows leave"
    for row, source in zip(together.tolist(), SOURCES, strict=True):
        (alone,) = generate(toy(), [source], max_new_tokens=60, **settings).tolist()
        assert trimmed(row) == trimmed(alone)
    assert torch.equal(together, generate(toy(), SOURCES, max_new_tokens=60, **settings)), "lists are padded"


def test_sources_draw_numbers_of_their_own() -> None:
    made = generate(toy(), [[5, 3], [6, 3]], do_sample=True, seed=1, max_new_tokens=8, num_return_sequences=2)
    assert len({tuple(row) for row in made.tolist()}) == 4


def test_what_the_encoder_returned_is_taken() -> None:
    model = toy()
    wanted = generate(model, IDS, attention_mask=MASK, max_new_tokens=9)
    states = model.encode(IDS, MASK)
    for given in (BaseModelOutput(states), (states,), {"last_hidden_state": states}):
        again = toy()
        assert torch.equal(generate(again, encoder_outputs=given, attention_mask=MASK, max_new_tokens=9), wanted)
        assert again.encoded == 0
    settings: dict[str, Any] = {"encoder_no_repeat_ngram_size": 1, "encoder_outputs": (states,), "max_new_tokens": 9}
    made = generate(toy(), IDS, attention_mask=MASK, **settings)
    for row, source in zip(made.tolist(), SOURCES, strict=True):
        assert not set(row[1:]) & set(source) - {0}


def test_how_the_decoder_begins() -> None:
    assert generate(toy(), SOURCES, max_new_tokens=3)[:, 0].tolist() == [0] * 4
    assert generate(toy(), SOURCES, max_new_tokens=3, decoder_start_token_id=9)[:, 0].tolist() == [9] * 4
    starts = [4, 5, 6, 7]
    made = generate(toy(), SOURCES, max_new_tokens=3, decoder_start_token_id=starts)
    assert made[:, 0].tolist() == starts
    # Without a start token it is the beginning of sequence.
    assert int(generate(ToyPair(bos_token_id=8), [[5, 3]], max_new_tokens=2)[0, 0]) == 8
    forced = generate(toy(), SOURCES, max_new_tokens=5, forced_bos_token_id=21, forced_eos_token_id=3)
    assert forced[:, 1].tolist() == [21] * 4
    assert generate(toy(), SOURCES, max_length=5).shape == (4, 5)
    assert generate(toy(), SOURCES).shape[1] <= 21


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"use_cache": False}], ids=str)
def test_prompts_of_the_decoder(settings: dict[str, Any]) -> None:
    prompts = [[5, 6], [7], [0, 8, 9], [4, 4]]
    alone = [
        generate(toy(), [source], decoder_input_ids=[prompt], max_new_tokens=6, **settings)[0].tolist()
        for source, prompt in zip(SOURCES, prompts, strict=True)
    ]
    # The start token comes before prompts that have none.
    assert [row[:2] for row in alone] == [[0, 5], [0, 7], [0, 8], [0, 4]]
    started = [[0, 5, 6], [0, 7], [0, 8, 9], [0, 4, 4]]
    together = generate(toy(), SOURCES, decoder_input_ids=started, max_new_tokens=6, **settings)
    for row, prompt, one in zip(together.tolist(), started, alone, strict=True):
        assert [i for i in row if i] == [i for i in one if i], prompt
    padded = torch.tensor([[0] * (3 - len(p)) + p for p in started])
    mask = torch.tensor([[0] * (3 - len(p)) + [1] * len(p) for p in started])
    tensors = generate(
        toy(), SOURCES, decoder_input_ids=padded, decoder_attention_mask=mask, max_new_tokens=6, **settings
    )
    assert torch.equal(tensors, together)
    # The start token is 0, the padding too: without a mask all of it counts.
    assert generate(toy(), SOURCES, decoder_input_ids=torch.zeros(4, 2, dtype=torch.long)).shape[1] > 2


def test_features_come_under_their_name() -> None:
    class Listens(ToyPair):
        main_input_name = "input_features"

        def __call__(self, input_features: Any = None, **arguments: Any) -> Any:  # type: ignore[override]
            ids = None if input_features is None else input_features[:, 0].long()
            return super().__call__(input_ids=ids, **arguments)

    model = Listens(eos=3, pad_token_id=0, decoder_start_token_id=0)
    features = IDS[:, None].float()
    wanted = generate(toy(), IDS, max_new_tokens=7)
    assert torch.equal(generate(model, features, max_new_tokens=7), wanted)
    assert torch.equal(generate(model, input_features=features, max_new_tokens=7), wanted)
    # Ids are those of the decoder then.
    prompts = [[0, 5]] * 4
    assert torch.equal(
        generate(model, features, input_ids=prompts, max_new_tokens=7),
        generate(toy(), IDS, decoder_input_ids=prompts, max_new_tokens=7),
    )
    drawn = [generate(model, features, max_new_tokens=7, do_sample=True, seed=3) for _ in range(2)]
    assert torch.equal(*drawn)
    with pytest.raises(InputError, match="encoder_repetition_penalty was given, and the encoder reads no token ids"):
        generate(model, features, encoder_repetition_penalty=1.2)


def test_speculation_changes_no_text() -> None:
    wanted = generate(toy(), [SOURCES[0]], max_new_tokens=30)
    assert torch.equal(generate(toy(), [SOURCES[0]], max_new_tokens=30, prompt_lookup_num_tokens=4), wanted)
    helper = toy(seed=5)
    assert torch.equal(generate(toy(), [SOURCES[0]], max_new_tokens=30, assistant_model=helper), wanted)
    assert helper.encoded == 1
    steps = list(stream(toy(), [SOURCES[0]], max_new_tokens=30))
    assert [token for step in steps for token in step.tokens] == wanted[0, 1:].tolist()


STATES = torch.zeros(4, 5, 1)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "The encoder was given nothing to read. Pass input_ids="),
        ({"input_ids": IDS, "inputs_embeds": STATES}, "Both input_ids and inputs_embeds were given"),
        ({"input_ids": IDS.float()}, "input_ids is of shape .4, 5. and type torch.float32"),
        ({"inputs_embeds": IDS}, "inputs_embeds is of shape"),
        ({"inputs_embeds": [[1.0]]}, "inputs_embeds is a list"),
        ({"input_ids": torch.zeros(2, 0, dtype=torch.long)}, "input_ids is empty"),
        ({"input_ids": [[5], []]}, "Prompt 1 has no tokens"),
        (
            {"input_ids": IDS, "attention_mask": MASK[:, :4]},
            "attention_mask is of shape .4, 4., what the encoder reads",
        ),
        ({"input_ids": IDS, "attention_mask": torch.tensor([[1] * 5, [0] * 5, [1] * 5, [1] * 5])}, "Source 1 has no"),
        ({"encoder_outputs": STATES}, "encoder_outputs is a tensor"),
        ({"encoder_outputs": (5,)}, "encoder_outputs hold no last_hidden_state"),
        ({"encoder_outputs": (STATES,), "input_ids": IDS[:2]}, "encoder_outputs have 4 rows, input_ids 2"),
        ({"input_ids": IDS, "decoder_input_ids": [[5]]}, "There are 1 rows of decoder_input_ids for 4 sources"),
        ({"input_ids": IDS, "decoder_input_ids": [[5], [], [6], [7]]}, "Prompt 1 has no tokens"),
        ({"input_ids": IDS, "decoder_attention_mask": MASK}, "decoder_attention_mask was given without"),
        (
            {"input_ids": IDS, "decoder_input_ids": IDS, "decoder_attention_mask": MASK[:1]},
            "decoder_attention_mask is of shape .1, 5., decoder_input_ids of shape .4, 5.",
        ),
        ({"input_ids": IDS, "decoder_start_token_id": [1, 2]}, "decoder_start_token_id has 2 tokens for 4 sources"),
        ({"input_ids": IDS, "decoder_start_token_id": None}, "does not say what its decoder begins with"),
        ({"input_ids": IDS, "max_length": 2, "decoder_input_ids": [[0, 5]] * 4}, "max_length=2 counts the prompt"),
        ({"input_ids": IDS[:1], "assistant_model": Toy()}, "The model is an encoder–decoder, and the assistant Toy"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], problem: str) -> None:
    model = toy()
    with pytest.raises(InputError, match=problem):
        generate(model, **arguments)
    assert not model.calls, "before work starts"


def test_decoders_have_no_encoder() -> None:
    for name in ("decoder_input_ids", "encoder_outputs", "input_features"):
        with pytest.raises(UnsupportedError, match=f"given {name}, and Toy has no encoder"):
            generate(Toy(), [[5]], **{name: [[5]]})
    with pytest.raises(InputError, match="The model is a decoder, and the assistant ToyPair is not"):
        generate(Toy(), [[5]], assistant_model=toy())


@cache
def small() -> Any:
    """A BART of one layer with 12 places for the decoder."""
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    torch.manual_seed(0)
    config = formers.BartConfig(vocab_size=61, max_position_embeddings=12, **sizes, **heads)
    return formers.BartForConditionalGeneration(config).eval()


LONG = torch.full((1, 13), 5)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"decoder_input_ids": LONG}, "A prompt has 14 tokens; this model's decoder takes at most 12"),
        ({"input_ids": LONG}, "The input has 13 tokens; this model takes at most 12"),
        ({"input_ids": torch.tensor([[61]])}, "The token ids go from 61 to 61; the model has 61"),
        ({"decoder_input_ids": torch.tensor([[61]])}, "The token ids go from 2 to 61; the model has 61"),
        ({"forced_bos_token_id": 61}, "forced_bos_token_id=61 was given, and the model has 61 tokens"),
        ({"forced_bos_token_id": "fr_XX"}, r"'fr_XX' was given\. Give a token id, such as tokenizer.convert_tokens"),
        ({"decoder_start_token_id": 61}, "The token ids go from 61 to 61"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(1, 3, 8)}, "inputs_embeds has the shape .1, 3, 8."),
        (
            {"input_ids": None, "encoder_outputs": (torch.zeros(1, 3, 8),)},
            "encoder_outputs are 8 wide, and the decoder",
        ),
        ({"token_type_ids": torch.zeros(1, 3)}, "given token_type_ids"),
        ({"use_cache": False, "past_key_values": 3}, "past_key_values were given with use_cache=False"),
        ({"decoder_input_id": 3}, "no setting 'decoder_input_id'"),
    ],
)
def test_what_a_model_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises((InputError, UnsupportedError), match=problem):
        small().generate(**{"input_ids": torch.tensor([[5, 6, 2]]), **arguments})


def test_the_decoder_writes_as_far_as_it_has_places() -> None:
    ids = torch.tensor([[5, 6, 2]])
    prompt = torch.full((1, 11), 5)
    settings: dict[str, Any] = {"forced_eos_token_id": None, "eos_token_id": None}
    assert small().generate(ids, decoder_input_ids=prompt, max_new_tokens=30, **settings).shape == (1, 13)
    assert small().generate(ids, max_new_tokens=30, **settings).shape == (1, 13)
    assert small().generate(ids, **settings).shape == (1, 12), "by default up to max_position_embeddings"


def test_settings_in_old_configurations() -> None:
    values = {**small().config.to_dict(), "num_beams": 4, "length_penalty": 2.0, "max_length": 142, "use_cache": True}
    found = formers.GenerationConfig.from_model_config(values).set_values()
    assert (found["num_beams"], found["length_penalty"], found["max_length"]) == (4, 2.0, 142)
    assert "use_cache" not in found
    # A decoder's configuration gives special tokens alone.
    assert "num_beams" not in formers.GenerationConfig.from_model_config({"num_beams": 4}).set_values()
    both = {"is_encoder_decoder": True, "pad_token_id": 4, "decoder": {"bos_token_id": 7, "pad_token_id": 3}}
    found = formers.GenerationConfig.from_model_config(both).set_values()
    assert (found["bos_token_id"], found["pad_token_id"]) == (7, 4)


def test_a_static_cache_and_one_of_the_callers() -> None:
    ids = torch.tensor([[5, 6, 2], [7, 8, 2]])
    wanted = small().generate(ids, max_new_tokens=8)
    assert torch.equal(small().generate(ids, max_new_tokens=8, cache_implementation="static"), wanted)
    cache = formers.EncoderDecoderCache()
    first = small().generate(ids, max_new_tokens=4, past_key_values=cache, forced_eos_token_id=None)
    more = small().generate(ids, decoder_input_ids=first, max_new_tokens=4, past_key_values=cache)
    assert torch.equal(more, wanted)
