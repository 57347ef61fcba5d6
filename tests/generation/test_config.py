"""Settings: their file, how they are merged, and what contradicts what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from formers import GenerationConfig
from formers.errors import FormersError, InputError, UnsupportedError
from formers.generation.config import names
from formers.generation.validation import REFUSED


def test_files_go_both_ways(tmp_path: Path) -> None:
    config = GenerationConfig(do_sample=True, top_k=7, eos_token_id=[2, 3], stop_strings=["a"])
    config.save_pretrained(tmp_path)
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (theirs.do_sample, theirs.top_k, theirs.eos_token_id, theirs.stop_strings) == (True, 7, [2, 3], ["a"])
    transformers.GenerationConfig(max_new_tokens=5, temperature=0.5, do_sample=True).save_pretrained(tmp_path)
    mine = GenerationConfig.from_pretrained(tmp_path)
    assert (mine.max_new_tokens, mine.temperature, mine.do_sample) == (5, 0.5, True)


def test_unknown_keys_of_a_file_survive(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"lang_to_id": {"de": 3}, "top_k": 4}))
    config = GenerationConfig.from_pretrained(tmp_path, max_new_tokens=9)
    assert config.extra == {"lang_to_id": {"de": 3}}
    config.do_sample = True
    config.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert written == {"do_sample": True, "lang_to_id": {"de": 3}, "max_new_tokens": 9, "top_k": 4}


def test_every_setting_of_the_reference_is_known() -> None:
    theirs = {name for name in vars(transformers.GenerationConfig()) if not name.startswith("_")}
    assert theirs <= names()
    assert set(REFUSED) <= names()


def test_the_call_wins_over_the_passed_over_the_models() -> None:
    model = GenerationConfig(top_k=1, top_p=0.1, temperature=0.1, do_sample=True, max_length=30)
    passed = GenerationConfig(top_k=2, top_p=0.2, do_sample=True)
    merged = model.merged(passed, {"top_k": 3})
    assert (merged.top_k, merged.top_p, merged.temperature) == (3, 0.2, 0.1)
    assert (merged.num_beams, merged.use_cache) == (1, True)
    assert (model.top_k, passed.top_k) == (1, 2)
    assert model.merged({"top_k": 5}).top_k == 5


def test_of_two_names_for_a_limit_the_nearer_counts() -> None:
    merged = GenerationConfig(max_length=30, min_length=3).merged(None, {"max_new_tokens": 4, "min_new_tokens": 2})
    assert (merged.max_length, merged.max_new_tokens, merged.min_new_tokens) == (None, 4, 2)
    assert GenerationConfig(max_new_tokens=30).merged({"max_length": 9}).max_new_tokens is None
    with pytest.raises(InputError, match=r"Both max_length=9 and max_new_tokens=4 .* counts new tokens"):
        GenerationConfig().merged(None, {"max_length": 9, "max_new_tokens": 4})


def test_what_a_models_file_says_is_no_contradiction() -> None:
    model = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9)
    merged = model.merged(None, {"do_sample": False})
    assert merged.do_sample is False
    assert GenerationConfig(temperature=0.6).merged().temperature == 0.6


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"temperature": 0.7}, r"temperature=0.7 acts on sampling.*Add do_sample=True"),
        ({"top_p": 0.9, "do_sample": False}, "top_p=0.9 acts on sampling"),
        ({"temperature": 0.0, "do_sample": True}, "Use do_sample=False"),
        ({"num_return_sequences": 2}, "greedy search"),
        ({"num_return_sequences": 3, "num_beams": 2}, "num_return_sequences=3 was asked of num_beams=2"),
        ({"early_stopping": True}, "early_stopping=True acts on beams"),
        ({"length_penalty": 2.0}, "length_penalty=2.0 acts on beams"),
        ({"output_scores": True}, "Add return_dict_in_generate=True"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens=5 is above"),
        ({"suppress_tokens": [1], "forced_eos_token_id": 1}, "among suppress_tokens"),
        ({"regex": "a", "grammar": "b"}, "Both regex and grammar|Both grammar and regex"),
        ({"regex": "a", "num_beams": 2}, "regex was given with num_beams=2"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 was given. Give a whole number of at least 1"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_p": 1.5}, r"top_p=1.5 was given. Give a number in \(0, 1\]"),
        ({"do_sample": "yes"}, "do_sample='yes' was given. Give True or False"),
        ({"max_time": 0}, "max_time=0"),
        ({"early_stopping": "soon"}, "early_stopping='soon'"),
        ({"cache_implementation": "quantized"}, "cache_implementation='quantized'"),
        ({"tempreature": 0.7}, "no setting 'tempreature'. Did you mean 'temperature'"),
    ],
)
def test_contradictions(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        GenerationConfig().merged(None, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0, "top_p": 1.0, "top_k": 50},
        {"temperature": None, "top_p": None, "do_sample": False},
        {"temperature": 0.0},
        {"top_k": 0, "num_beam_groups": 1, "diversity_penalty": 0.0, "guidance_scale": 1.0, "low_memory": False},
    ],
)
def test_what_asks_for_nothing_is_no_contradiction(settings: dict[str, Any]) -> None:
    assert GenerationConfig().merged(None, settings).do_sample is False


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_offered_says_so(name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        GenerationConfig(**{name: 0.37})


def test_a_dictionary_or_a_namesake_is_an_error() -> None:
    with pytest.raises((TypeError, FormersError)):
        GenerationConfig(max_new_token=3)
    assert GenerationConfig().update(top_k=3, foo=1) == {"foo": 1}
    assert "top_k" in repr(GenerationConfig(top_k=3))
