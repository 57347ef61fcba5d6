"""Which settings of generation are out of range, contradict each other, or are refused, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from formers.errors import InputError, UnsupportedError

# Of the reference, not offered here. Each with the values that ask for nothing, and what to do instead.
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "assistant_early_exit": ((), "Pass assistant_model, or prompt_lookup_num_tokens."),
    "assistant_ensemble_weight": ((), "Leave it out: speculation gives the model's own text."),
    "assistant_lookbehind": ((10,), "Use an assistant with the model's own tokenizer."),
    "target_lookbehind": ((10,), "Use an assistant with the model's own tokenizer."),
    "speculation_type": ((), "Pass assistant_model, or prompt_lookup_num_tokens."),
    "use_mtp": ((False,), "Pass assistant_model, or prompt_lookup_num_tokens."),
    "guidance_scale": ((1, 1.0), "Mix the scores in a logits_processor of your own."),
    "watermarking_config": ((), "Watermark in a logits_processor of your own."),
    "token_healing": ((False,), "End the prompt at the end of a token."),
    "low_memory": ((False,), "Use fewer beams."),
    "penalty_alpha": ((0, 0.0), "Use do_sample=True with top_k or top_p."),
    "dola_layers": ((), "Leave it out."),
    "diversity_penalty": ((0, 0.0), "Use do_sample=True with num_return_sequences for different texts."),
    "num_beam_groups": ((1,), "Use do_sample=True with num_return_sequences for different texts."),
    "constraints": ((), "Use regex=, grammar= or json_schema=."),
    "force_words_ids": ((), "Use regex=, grammar= or json_schema=."),
    "prefill_chunk_size": ((), "Leave it out: prompts are read in one piece."),
    "compile_config": ((), "Compile the model yourself with torch.compile."),
    "continuous_batching_config": ((), "Leave it out: finished rows leave the batch as it is."),
    "cache_config": ((), "Leave it out: the cache grows as it is filled."),
}
CACHES = ("dynamic", "static", "hybrid", "sliding_window", "dynamic_full")

_POSITIVE = [
    "max_new_tokens",
    "max_length",
    "num_beams",
    "num_return_sequences",
    "prompt_lookup_num_tokens",
    "num_assistant_tokens",
    "max_matching_ngram_size",
    "max_cache_len",
]
_NOT_NEGATIVE = [
    "min_length",
    "min_new_tokens",
    "top_k",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
]
_FLAGS = [
    "do_sample",
    "use_cache",
    "renormalize_logits",
    "remove_invalid_values",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "output_logprobs",
    "return_dict_in_generate",
    "is_assistant",
    "disable_compile",
]
# Open below, closed above unless said otherwise.
_SHARES = {"top_p": "(0, 1]", "typical_p": "(0, 1]", "min_p": "[0, 1]", "top_h": "(0, 1]"}
_SHARES |= {"epsilon_cutoff": "[0, 1)", "eta_cutoff": "[0, 1)", "assistant_confidence_threshold": "[0, 1]"}

# Settings that act in one strategy alone, with the values that ask for nothing.
_SAMPLING: dict[str, tuple[Any, ...]] = {
    # A temperature of 0 is another way to say: no sampling.
    "temperature": (0, 1),
    "top_k": (0, 50),
    "top_p": (1,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "min_p": (0,),
    "top_h": (),
}
_BEAMS: dict[str, tuple[Any, ...]] = {"early_stopping": (False,), "length_penalty": (1,)}
OUTPUTS = ("output_scores", "output_logits", "output_logprobs", "output_attentions", "output_hidden_states")
_CONSTRAINTS = ("json_schema", "regex", "grammar")


def check(values: Mapping[str, Any], *, strict: bool = False, under: Mapping[str, Any] | None = None) -> None:
    """Raise for values (None is not among them) that cannot be used.

    With `strict` also for those that would have no effect, given all settings `under` which they act.
    """
    for name, value in values.items():
        _check_value(name, value)
    _check_pairs(values)
    if strict:
        _check_effect(values, values if under is None else under)


def _check_value(name: str, value: Any) -> None:
    if name in REFUSED:
        nothing, remedy = REFUSED[name]
        if not any(value is n or value == n for n in nothing):
            raise UnsupportedError(f"{name}={value!r} was given, and formers does not offer it.", remedy)
    elif name in _POSITIVE:
        _require(_whole(value) and value >= 1, name, value, "a whole number of at least 1")
    elif name in _NOT_NEGATIVE:
        _require(_whole(value) and value >= 0, name, value, "a whole number of at least 0")
    elif name in _FLAGS:
        _require(isinstance(value, bool), name, value, "True or False")
    elif name in _SHARES:
        interval = _SHARES[name]
        fits = _number(value) and 0 <= value <= 1
        fits = fits and not (value == 0 and interval[0] == "(") and not (value == 1 and interval[-1] == ")")
        _require(fits, name, value, f"a number in {interval}")
    elif name in ("repetition_penalty", "encoder_repetition_penalty"):
        _require(_number(value) and value > 0, name, value, "a number above 0 (1 changes nothing)")
    elif name == "temperature":
        _require(_number(value) and value >= 0, name, value, "a number of at least 0")
    elif name in ("presence_penalty", "frequency_penalty", "length_penalty"):
        _require(_number(value), name, value, "a number")
    elif name == "max_time":
        _require(_number(value) and value > 0, name, value, "a number of seconds above 0")
    elif name == "early_stopping":
        _require(isinstance(value, bool) or value == "never", name, value, "True, False or 'never'")
    elif name == "cache_implementation":
        _require(value in CACHES, name, value, f"one of {', '.join(CACHES)}")
    elif name == "num_assistant_tokens_schedule":
        _require(value in ("constant", "heuristic", "heuristic_transient"), name, value, "'constant' or 'heuristic'")
    elif name == "seed":
        _require(_whole(value), name, value, "a whole number")
    elif name == "exponential_decay_length_penalty":
        _require(isinstance(value, (tuple, list)) and len(value) == 2, name, value, "a pair (start, factor)")
    elif name == "forced_bos_token_id":
        _require(
            _whole(value) and value >= 0, name, value, "a token id, such as tokenizer.convert_tokens_to_ids('fr_XX')"
        )
    elif name in ("pad_token_id", "bos_token_id"):
        _require(_whole(value), name, value, "a token id, or None")


def _check_pairs(values: Mapping[str, Any]) -> None:
    beams, copies = values.get("num_beams", 1), values.get("num_return_sequences", 1)
    if beams > 1 and copies > beams:
        raise InputError(
            f"num_return_sequences={copies} was asked of num_beams={beams}.",
            f"Use num_beams={copies}, or do_sample=True without beams.",
        )
    if values.get("do_sample") and values.get("temperature") == 0:
        raise InputError("temperature=0 was given with do_sample=True.", "Use do_sample=False for the likeliest text.")
    lowest, highest = values.get("min_new_tokens"), values.get("max_new_tokens")
    if lowest is not None and highest is not None and lowest > highest:
        raise InputError(
            f"min_new_tokens={lowest} is above max_new_tokens={highest}.", "Lower one, or raise the other."
        )
    suppressed = set(values.get("suppress_tokens") or ())
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = values.get(name)
        forced_set = set(forced) if isinstance(forced, (list, tuple)) else {forced} - {None}
        if forced_set and forced_set <= suppressed:
            raise InputError(
                f"{name}={forced} is among suppress_tokens.", f"Take it out of suppress_tokens, or leave out {name}."
            )
    chosen = [name for name in _CONSTRAINTS if name in values]
    if len(chosen) > 1:
        raise InputError(f"Both {chosen[0]} and {chosen[1]} were given.", "Give one of them.")
    if chosen and beams > 1:
        raise InputError(f"{chosen[0]} was given with num_beams={beams}.", "Use num_beams=1.")


def _check_effect(values: Mapping[str, Any], under: Mapping[str, Any]) -> None:
    sampling, beams = bool(under.get("do_sample")), under.get("num_beams", 1)
    if not sampling:
        for name, neutral in _SAMPLING.items():
            if name in values and values[name] not in neutral:
                raise InputError(
                    f"{name}={values[name]!r} acts on sampling, and nothing is sampled.",
                    f"Add do_sample=True, or leave {name} out.",
                )
        if beams == 1 and values.get("num_return_sequences", 1) > 1:
            raise InputError(
                f"num_return_sequences={values['num_return_sequences']} texts were asked of a greedy search, "
                "which has one answer.",
                "Add do_sample=True, or num_beams.",
            )
    if beams == 1:
        for name, neutral in _BEAMS.items():
            if name in values and values[name] not in neutral:
                raise InputError(
                    f"{name}={values[name]!r} acts on beams, and there is one.", f"Use num_beams, or leave {name} out."
                )
    if not under.get("return_dict_in_generate"):
        for name in OUTPUTS:
            if values.get(name):
                raise InputError(
                    f"{name}=True was given, and a plain tensor has no place for it.",
                    "Add return_dict_in_generate=True.",
                )


def _require(fits: bool, name: str, value: Any, expected: str) -> None:
    if not fits:
        raise InputError(f"{name}={value!r} was given.", f"Give {expected}.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
