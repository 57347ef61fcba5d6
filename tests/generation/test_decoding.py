"""Greedy search, beams and their results: token for token the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import formers
from formers.errors import InputError, UnsupportedError
from formers.generation import generate, stream
from tests.generation.reference import ours, reference
from tests.generation.toy import Toy

# Not 0: the reference takes that for no padding token in beam search.
PAD = 35
PROMPTS = torch.tensor([[5, 6, 7, 8], [PAD, PAD, 9, 10], [PAD, 11, 12, 13]])
MASK = (PROMPTS != PAD).long()
TOO_LONG = {"max_new_tokens": 12}

GREEDY: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.8},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 6},
    {"min_length": 9},
    {"bad_words_ids": [[3], [4, 5]], "suppress_tokens": [9]},
    {"forced_eos_token_id": 2},
    {"eos_token_id": [2, 17, 20]},
    {"exponential_decay_length_penalty": (3, 1.4)},
    {"begin_suppress_tokens": [1, 2, 3, 4, 5, 6, 7], "sequence_bias": [[[20], 3.0]]},
    {"encoder_repetition_penalty": 1.5, "encoder_no_repeat_ngram_size": 2},
    {"renormalize_logits": True, "remove_invalid_values": True},
    {"use_cache": False},
]
BEAMS: list[dict[str, Any]] = [
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 2.0},
    {"num_beams": 3, "length_penalty": -1.0, "early_stopping": True},
    {"num_beams": 3, "early_stopping": "never", "length_penalty": 0.5},
    {"num_beams": 2, "no_repeat_ngram_size": 2, "repetition_penalty": 1.5, "eos_token_id": [2, 5]},
    {"num_beams": 3, "use_cache": False},
]


def theirs(model: Any, ids: torch.Tensor = PROMPTS, mask: torch.Tensor = MASK, **settings: Any) -> Any:
    return model.generate(ids, attention_mask=mask, **{**TOO_LONG, **settings})


def same(mine: torch.Tensor, wanted: torch.Tensor) -> None:
    width = max(mine.shape[1], wanted.shape[1])
    # The reference may end with columns of padding alone.
    mine, wanted = (torch.nn.functional.pad(t, (0, width - t.shape[1]), value=PAD) for t in (mine, wanted))
    assert mine.tolist() == wanted.tolist()


@pytest.mark.parametrize("model", [("gpt2", 0), ("llama", 1)], ids=str)
@pytest.mark.parametrize("settings", GREEDY, ids=lambda s: "-".join(s) or "plain")
def test_greedy_is_the_references(settings: dict[str, Any], model: tuple[str, int]) -> None:
    mine = ours(*model).generate(PROMPTS, attention_mask=MASK, **TOO_LONG, **settings)
    same(mine, theirs(reference(*model), **settings))


@pytest.mark.parametrize("model", [("gpt2", 0), ("gpt2", 1), ("llama", 2)], ids=str)
@pytest.mark.parametrize("settings", BEAMS, ids=lambda s: "-".join(s))
def test_beams_are_the_references(settings: dict[str, Any], model: tuple[str, int]) -> None:
    mine = ours(*model).generate(PROMPTS, attention_mask=MASK, **TOO_LONG, **settings)
    same(mine, theirs(reference(*model), **settings))


def test_what_beams_return() -> None:
    model = reference("gpt2", 1)
    settings = {"num_beams": 3, "num_return_sequences": 2, "return_dict_in_generate": True, "output_scores": True}
    settings["output_logits"] = True
    mine = ours("gpt2", 1).generate(PROMPTS, attention_mask=MASK, **TOO_LONG, **settings)
    wanted = theirs(model, **settings)
    same(mine.sequences, wanted.sequences)
    torch.testing.assert_close(mine.sequences_scores, wanted.sequences_scores, rtol=1e-4, atol=1e-4)
    assert mine.beam_indices.tolist() == wanted.beam_indices.tolist()
    assert len(mine.scores) == len(mine.logits) == len(wanted.scores)
    for a, b in zip(mine.logits[:3], wanted.logits[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    transitions = [m.compute_transition_scores(o.sequences, o.scores, o.beam_indices) for m, o in ((model, wanted),)]
    found = ours("gpt2", 1).compute_transition_scores(mine.sequences, mine.scores, mine.beam_indices)
    torch.testing.assert_close(found, transitions[0], rtol=1e-4, atol=1e-4)


def test_what_a_greedy_search_returns() -> None:
    model = reference("gpt2", 0)
    settings = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    settings["repetition_penalty"] = 1.5
    mine = ours("gpt2", 0).generate(PROMPTS, attention_mask=MASK, output_logprobs=True, **TOO_LONG, **settings)
    wanted = theirs(model, **settings)
    same(mine.sequences, wanted.sequences)
    assert len(mine.scores) == len(wanted.scores)
    # A row that has ended goes on with padding in both.
    for name in ("scores", "logits"):
        for a, b in zip(mine[name], wanted[name], strict=True):
            torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-4)
    new = mine.sequences[:, PROMPTS.shape[1] :].tolist()
    for row, tokens in enumerate(new):
        count = tokens.index(2) + 1 if 2 in tokens else len(tokens)
        pairs = zip(wanted.logits, tokens[:count], strict=False)
        expected = [float(step[row].log_softmax(-1)[token]) for step, token in pairs] + [0.0] * (len(tokens) - count)
        torch.testing.assert_close(mine.logprobs[row], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert mine.keys() == {"sequences", "scores", "logits", "past_key_values", "logprobs"}


@pytest.mark.parametrize("beams", [1, 3])
def test_rows_leave_the_batch(beams: int) -> None:
    toy = Toy(eos=3, pad_token_id=0, seed=4)
    prompts = [[5, 6], [7, 8, 9], [10], [11, 12]]
    together = generate(toy, prompts, max_new_tokens=60, num_beams=beams)
    assert toy.calls[-1] < len(prompts) * beams
    for row, prompt in zip(together.tolist(), prompts, strict=True):
        (alone,) = generate(Toy(eos=3, pad_token_id=0, seed=4), [prompt], max_new_tokens=60, num_beams=beams).tolist()
        assert [i for i in row if i] == [i for i in alone if i]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("masked", [True, False])
def test_padding_on_either_side(side: str, masked: bool) -> None:
    rows = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    fill = [[0] * (4 - len(row)) for row in rows]
    ids = torch.tensor([f + r if side == "left" else r + f for f, r in zip(fill, rows, strict=True)])
    toy = Toy(pad_token_id=0)
    made = generate(toy, ids, attention_mask=(ids != 0).long() if masked else None, max_new_tokens=6)
    assert torch.equal(made[:, :4], ids)
    for row, prompt in zip(made, rows, strict=True):
        assert row[4:].tolist() == generate(toy, [prompt], max_new_tokens=6)[0, len(prompt) :].tolist()


def test_padding_with_the_end_of_sequence() -> None:
    toy = Toy(eos=3)
    ids = torch.tensor([[3, 3, 5, 6], [7, 8, 9, 10]])
    alone = generate(toy, [[5, 6]], max_new_tokens=6)[0, 2:].tolist()
    assert generate(toy, ids, max_new_tokens=6)[0, 4:].tolist()[: len(alone)] == alone
    # Where every text begins with it, it is no padding.
    both = torch.tensor([[3, 5, 6], [3, 7, 8]])
    alone = generate(toy, [[3, 5]], max_new_tokens=6)[0, 2:].tolist()
    assert generate(toy, both[:, :2], max_new_tokens=6)[0, 2:].tolist()[: len(alone)] == alone


def test_a_limit_counts_the_prompt_or_not() -> None:
    toy = Toy()
    assert generate(toy, [[5, 6, 7]], max_length=10).shape == (1, 10)
    assert generate(toy, [[5, 6, 7]], max_new_tokens=10).shape == (1, 13)
    assert generate(toy, [[5, 6, 7]]).shape == (1, 23)
    made = generate(toy, [[5, 6, 7], [8]], max_length=8)
    assert (made[0, 8:] == 0).all()
    assert made[1, 2:].tolist() == generate(toy, [[8]], max_length=8)[0].tolist()
    with pytest.raises(InputError, match="3 tokens, and max_length=3 counts the prompt"):
        generate(toy, [[5, 6, 7]], max_length=3)


def test_a_cache_that_has_read_the_prompt() -> None:
    toy = Toy()
    first = generate(toy, [[5, 6, 7]], max_new_tokens=4, return_dict_in_generate=True)
    longer = torch.cat((first.sequences, torch.tensor([[9, 10]])), 1)
    read = len(toy.calls)
    again = generate(toy, longer, max_new_tokens=4, past_key_values=first.past_key_values)
    assert torch.equal(again, generate(toy, longer, max_new_tokens=4))
    assert len(toy.calls) - read == 8
    with pytest.raises(InputError, match="past_key_values hold 1 rows, and there are 2 prompts"):
        generate(toy, [[5], [6]], past_key_values=first.past_key_values)


def test_steps_one_by_one() -> None:
    toy = Toy(eos=3, pad_token_id=0, seed=4)
    prompts = [[5, 6], [7, 8, 9], [10]]
    made = generate(toy, prompts, max_new_tokens=9)
    rows: list[list[int]] = [[], [], []]
    reasons = {}
    for step in stream(toy, prompts, max_new_tokens=9):
        for row, token in zip(step.rows, step.tokens, strict=True):
            rows[row].append(token)
        reasons.update(step.finished)
    for row, found, reason in zip(made[:, 3:].tolist(), rows, [reasons[i] for i in range(3)], strict=True):
        assert row[: len(found)] == found
        assert reason == ("eos" if found[-1] == 3 else "length")


def test_own_processors_and_criteria_see_the_whole_batch() -> None:
    seen = []

    def processor(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(ids.shape))
        return scores

    class Five(formers.StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any = None) -> torch.Tensor:
            return input_ids[:, -1] % 5 == 0

    toy = Toy(eos=3, pad_token_id=0, seed=4)
    prompts = [[5, 6], [7, 8, 9], [10]]
    plain = generate(toy, prompts, max_new_tokens=8)
    assert torch.equal(generate(toy, prompts, max_new_tokens=8, logits_processor=[processor]), plain)
    assert {rows for rows, _ in seen} == {3}
    stopped = generate(toy, prompts, max_new_tokens=8, stopping_criteria=[Five()])
    for row in stopped[:, 3:].tolist():
        new = [i for i in row if i]
        assert all(i % 5 for i in new[:-1])
    model = reference("gpt2", 0)
    criteria = transformers.StoppingCriteriaList([lambda ids, scores: ids[:, -1] % 5 == 0])
    for beams in (1, 2):
        mine = ours("gpt2", 0).generate(PROMPTS[:1], max_new_tokens=12, stopping_criteria=[Five()], num_beams=beams)
        wanted = theirs(model, PROMPTS[:1], MASK[:1], stopping_criteria=criteria, num_beams=beams)
        same(mine, wanted)


def test_allowed_tokens_by_prefix() -> None:
    toy = Toy()
    made = generate(toy, [[5], [6]], max_new_tokens=4, prefix_allowed_tokens_fn=lambda prompt, ids: [prompt + 20])
    assert made.tolist() == [[5, 20, 20, 20, 20], [6, 21, 21, 21, 21]]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_new_token": 3}, "no setting 'max_new_token'. Did you mean 'max_new_tokens'"),
        ({"inputs_embeds": torch.zeros(1, 2, 3)}, "given inputs_embeds, and Toy has no encoder"),
        ({"stop_strings": "x"}, "without a tokenizer"),
        ({"num_beams": 2, "prompt_lookup_num_tokens": 2}, "Speculation was asked for with beams"),
        ({"use_cache": False, "past_key_values": 3}, "past_key_values were given with use_cache=False"),
        ({"max_cache_len": 30}, "max_cache_len=30"),
    ],
)
def test_arguments_that_cannot_be(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises((InputError, UnsupportedError), match=problem):
        generate(Toy(), [[5, 6]], **settings)


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (None, "No prompt"),
        ("text", "type str"),
        ([], "There is no prompt"),
        ([[5], []], "Prompt 1 has no tokens"),
        ({"input_ids": [[1]]}, r"generate\(\*\*inputs\)"),
        (torch.zeros(1, 2), "of shape"),
    ],
)
def test_prompts_that_cannot_be(prompt: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        generate(Toy(), prompt)


def test_a_text_ends_where_the_positions_do() -> None:
    model = ours("gpt2", 0)
    prompt = [[5 + i % 20 for i in range(120)], [7]]
    made = model.generate(prompt, max_new_tokens=15, eos_token_id=-1)
    assert made.shape == (2, 135)
    # 128 positions: the last token has none, as it is not read.
    assert (made[0, 129:] == PAD).all()
    assert made[1, 120:].tolist() == model.generate([[7]], max_new_tokens=15, eos_token_id=-1)[0, 1:].tolist()
    with pytest.raises(InputError, match="takes at most 128"):
        model.generate([[5] * 130], max_new_tokens=3)


def test_the_models_own_settings(tmp_path: Path) -> None:
    model = ours("llama", 0)
    assert model.generation_config.eos_token_id == 2
    mine = formers.LlamaForCausalLM(model.config)
    mine.load_state_dict(model.state_dict())
    mine.generation_config = formers.GenerationConfig(max_new_tokens=3, suppress_tokens=[9], eos_token_id=[2, 4])
    mine.save_pretrained(tmp_path)
    again = formers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.generation_config.to_dict() == mine.generation_config.to_dict()
    made = again.generate(PROMPTS[:1])
    assert made.shape[1] <= 7
    assert made.tolist() == transformers.AutoModelForCausalLM.from_pretrained(tmp_path).generate(PROMPTS[:1]).tolist()
    assert again.generate(PROMPTS[:1], max_length=6).shape[1] <= 6


@pytest.mark.parametrize("cache", ["static", "dynamic", None])
def test_kinds_of_cache(cache: str | None) -> None:
    model = ours("llama", 0)
    made = model.generate(PROMPTS, attention_mask=MASK, cache_implementation=cache, **TOO_LONG)
    assert made.tolist() == model.generate(PROMPTS, attention_mask=MASK, **TOO_LONG).tolist()
    for own in (formers.DynamicCache(), None):
        found = model.generate(PROMPTS, attention_mask=MASK, past_key_values=own, **TOO_LONG)
        assert found.tolist() == made.tolist()
