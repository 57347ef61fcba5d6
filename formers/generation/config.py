"""GenerationConfig: every setting of generation, its file, how settings are merged, and what contradicts what."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

from formers.errors import ConfigError, InputError
from formers.generation.validation import check
from formers.hub.atomic import write_json
from formers.hub.files import Source, resolve

FILE_NAME = "generation_config.json"

# What a value is when nobody sets it.
DEFAULTS: dict[str, Any] = {
    "min_length": 0,
    "do_sample": False,
    "use_cache": True,
    "early_stopping": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "num_return_sequences": 1,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "max_matching_ngram_size": 2,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "output_logits": False,
    "output_logprobs": False,
    "return_dict_in_generate": False,
}
# New tokens when neither max_length nor max_new_tokens is set anywhere.
DEFAULT_NEW_TOKENS = 20
# Two names for one limit: the one set nearer to the call counts.
_RIVALS = (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens"))


@dataclass(kw_only=True, repr=False)
class GenerationConfig:
    """Settings of `generate`; None is a value nobody has set. Other keys of a file are kept in `extra`.

    Settings are merged as: arguments of the call, over the configuration passed to it, over the model's own.
    """

    # Length, in tokens; max_length counts the prompt, with its padding.
    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    early_stopping: bool | str | None = None
    max_time: float | None = None  # seconds
    stop_strings: str | list[str] | None = None
    # The strategy, and its random numbers.
    do_sample: bool | None = None
    num_beams: int | None = None
    num_return_sequences: int | None = None
    seed: int | None = None
    # The cache.
    use_cache: bool | None = None
    cache_implementation: str | None = None
    cache_config: Any = None
    max_cache_len: int | None = None
    # Scores.
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    top_h: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    encoder_repetition_penalty: float | None = None
    length_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    encoder_no_repeat_ngram_size: int | None = None
    bad_words_ids: list[list[int]] | None = None
    renormalize_logits: bool | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    remove_invalid_values: bool | None = None
    exponential_decay_length_penalty: tuple[int, float] | list[float] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    sequence_bias: Any = None
    # What the text must be; see `formers.generation.constraints`.
    json_schema: Any = None
    regex: str | None = None
    grammar: str | None = None
    # What comes back.
    output_attentions: bool | None = None
    output_hidden_states: bool | None = None
    output_scores: bool | None = None
    output_logits: bool | None = None
    output_logprobs: bool | None = None
    return_dict_in_generate: bool | None = None
    # Special tokens.
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | list[int] | None = None
    # Speculation.
    is_assistant: bool | None = None
    num_assistant_tokens: int | None = None
    num_assistant_tokens_schedule: str | None = None
    assistant_confidence_threshold: float | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None
    # Names of the reference that `validation.REFUSED` answers when they ask for something.
    assistant_early_exit: int | None = None
    assistant_ensemble_weight: float | None = None
    assistant_lookbehind: int | None = None
    target_lookbehind: int | None = None
    speculation_type: str | None = None
    use_mtp: bool | None = None
    guidance_scale: float | None = None
    watermarking_config: Any = None
    token_healing: bool | None = None
    low_memory: bool | None = None
    penalty_alpha: float | None = None
    dola_layers: Any = None
    diversity_penalty: float | None = None
    num_beam_groups: int | None = None
    constraints: Any = None
    force_words_ids: Any = None
    prefill_chunk_size: int | None = None
    compile_config: Any = None
    disable_compile: bool | None = None
    continuous_batching_config: Any = None
    transformers_version: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.validate()

    def validate(self, strict: bool = False) -> None:
        """Raise InputError for values out of range; with `strict`, also for settings that contradict each other."""
        check(self.set_values(), strict=strict)

    # -- merging -------------------------------------------------------------------------------------------------

    def set_values(self) -> dict[str, Any]:
        """The settings that somebody has set."""
        return {name: value for name in names() if (value := getattr(self, name)) is not None}

    def update(self, **values: Any) -> dict[str, Any]:
        """Set several values; returns those whose names are no settings, as the reference does."""
        known = names()
        for name, value in values.items():
            if name in known:
                setattr(self, name, value)
        self.validate()
        return {name: value for name, value in values.items() if name not in known}

    def merged(
        self, passed: GenerationConfig | Mapping[str, Any] | None = None, call: Mapping[str, Any] | None = None
    ) -> GenerationConfig:
        """These settings (a model's) under a passed configuration under the arguments of a call, all values settled.

        A None in the call unsets. What a caller sets is checked for contradictions; what only a model's file says, not.
        """
        values = self.set_values()
        asked: dict[str, Any] = {}
        given = passed.set_values() if isinstance(passed, GenerationConfig) else dict(passed or {})
        for level in (given, dict(call or {})):
            check_names(level)
            for pair in _RIVALS:
                if all(level.get(name) is not None for name in pair):
                    raise InputError(
                        f"Both {pair[0]}={level[pair[0]]} and {pair[1]}={level[pair[1]]} were given.",
                        f"Give one of them: {pair[1]} counts new tokens, {pair[0]} the prompt's too.",
                    )
            values, asked = over(values, level), over(asked, level)
        asked = {name: value for name, value in asked.items() if value is not None}
        values = {name: value for name, value in values.items() if value is not None}
        check(asked, strict=True, under=values)
        check(values)
        return GenerationConfig(**{**DEFAULTS, **values})

    def under(self, other: GenerationConfig) -> GenerationConfig:
        """These settings where the other configuration sets none."""
        return GenerationConfig(**over(self.set_values(), other.set_values()))

    # -- files ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **overrides: Any) -> GenerationConfig:
        """A configuration from what a file holds; unknown keys go to `extra`. Overrides must be known."""
        check_names(overrides)
        known = names()
        values = {name: value for name, value in config_dict.items() if name in known}
        extra = {name: value for name, value in config_dict.items() if name not in known and name != "extra"}
        return cls(**{**values, **overrides}, extra=extra)

    @classmethod
    def from_model_config(cls, model_config: Any) -> GenerationConfig:
        """The settings that old files keep in the model's config.json: special tokens above all.

        Of encoder–decoders all settings, as in version 4 of the reference: how a model summarizes or translates was
        there. Special tokens may be those of its decoder's own configuration.
        """
        values = dict(model_config if isinstance(model_config, Mapping) else model_config.to_dict())
        if isinstance(values.get("decoder"), Mapping):
            values = {**values["decoder"], **{name: value for name, value in values.items() if value is not None}}
        found = _FROM_SEQ2SEQ if values.get("is_encoder_decoder") else _FROM_MODEL
        return cls(**{name: values[name] for name in found if values.get(name) is not None})

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name: str | PathLike[str],
        config_file_name: str = FILE_NAME,
        *,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        **overrides: Any,
    ) -> GenerationConfig:
        """Read generation_config.json of a folder, an installed model package or a hub model."""
        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download)
        return cls.from_dict(resolve(pretrained_model_name, source).read_json(config_file_name), **overrides)

    def save_pretrained(
        self, save_directory: str | PathLike[str], config_file_name: str = FILE_NAME, push_to_hub: bool = False
    ) -> None:
        """Write generation_config.json into a folder, which is made if need be."""
        self.validate(strict=True)
        folder = Path(save_directory)
        if folder.is_file():
            raise ConfigError(f"{folder} is a file.", "Give the path of a folder to save into.")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / config_file_name, self.to_diff_dict())
        if push_to_hub:
            from formers.hub.upload import upload_folder

            upload_folder(folder, folder.name)

    def to_dict(self) -> dict[str, Any]:
        """All settings, set or not, and the keys in `extra`."""
        values = {name: copy.deepcopy(getattr(self, name)) for name in names()}
        return {**values, **copy.deepcopy(self.extra)}

    def to_diff_dict(self) -> dict[str, Any]:
        """What has been set: what the file holds."""
        return {name: value for name, value in sorted(self.to_dict().items()) if value is not None}

    def to_json_string(self, use_diff: bool = True) -> str:
        """The text of the file."""
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"

    def __repr__(self) -> str:
        return f"GenerationConfig {self.to_json_string()}"


_NAMES: frozenset[str] = frozenset(f.name for f in dataclasses.fields(GenerationConfig)) - {"extra"}
_FROM_MODEL = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_eos_token_id")


# The other names are of the model's own outputs too.
_FROM_SEQ2SEQ = sorted(
    _NAMES - {"use_cache", "output_attentions", "output_hidden_states", "transformers_version", "cache_config"}
)


def over(values: Mapping[str, Any], level: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with those of a level nearer to the call over them."""
    replaced = {name for pair in _RIVALS if any(level.get(name) is not None for name in pair) for name in pair}
    return {**{name: value for name, value in values.items() if name not in replaced}, **level}


def names() -> frozenset[str]:
    """The names of all settings."""
    return _NAMES


def check_names(given: Mapping[str, Any]) -> None:
    """InputError for a name that is no setting, with the names near to it."""
    for name in given:
        if name not in _NAMES:
            near = get_close_matches(name, sorted(_NAMES), n=3, cutoff=0.7)
            meant = (
                f"Did you mean {' or '.join(map(repr, near))}?" if near else "See GenerationConfig for the settings."
            )
            raise InputError(f"Generation has no setting {name!r}.", meant)
