"""From the arguments of Whisper's `generate` to a task: languages, thresholds and prompts, checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from formers.errors import ConfigError, InputError
from formers.generation.config import GenerationConfig
from formers.generation.planning import model_config
from formers.generation.processing import LogitsProcessor
from formers.generation.whisper import Recording, Task
from formers.outputs import BaseModelOutput
from formers.tokenization.whisper import TASKS, code_of

# Settings that a generation configuration of Whisper may hold beside those of all models.
_THRESHOLDS = ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold")


def make_task(
    model: Any,
    recordings: Sequence[Recording],
    *,
    generation_config: GenerationConfig | Mapping[str, Any] | None = None,
    logits_processor: Iterable[LogitsProcessor] | None = None,
    stopping_criteria: Iterable[Callable[..., Any]] | None = None,
    return_timestamps: bool | None = None,
    task: str | None = None,
    language: str | Sequence[str] | None = None,
    is_multilingual: bool | None = None,
    prompt_ids: Any = None,
    prompt_condition_type: str | None = None,
    condition_on_prev_tokens: bool | None = None,
    temperature: float | Sequence[float] | None = None,
    compression_ratio_threshold: float | None = None,
    logprob_threshold: float | None = None,
    no_speech_threshold: float | None = None,
    return_token_timestamps: bool | None = None,
    monitor_progress: Callable[[Tensor], None] | None = None,
    defaults: GenerationConfig | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Task:
    """What to do with recordings; InputError for arguments that do not fit the model or one another."""
    own = model_config(model)
    passed = generation_config.extra if isinstance(generation_config, GenerationConfig) else {}
    extra = {**own.extra, **passed}

    def said(name: str, given: Any) -> Any:
        return extra.get(name) if given is None else given

    plain = extra.get("no_timestamps_token_id")
    longest = max(recording.frames for recording in recordings)
    timestamps = _timestamps(return_timestamps, bool(extra.get("return_timestamps")), longest > _window(model), plain)
    if is_multilingual is None:
        is_multilingual = extra.get("is_multilingual")
    if is_multilingual is False and (task is not None or language is not None):
        raise InputError(
            "A language or a task was given to a model of English alone.",
            "Leave both out, or use a multilingual model, whose names do not end in '.en'.",
        )
    conditioned = bool(said("condition_on_prev_tokens", condition_on_prev_tokens))
    kind = prompt_condition_type or "first-segment"
    if kind not in ("first-segment", "all-segments"):
        raise InputError(f"prompt_condition_type={kind!r} was given.", "Use 'first-segment' or 'all-segments'.")
    if kind == "all-segments" and not conditioned:
        raise InputError(
            "prompt_condition_type='all-segments' needs what was written before.", "Pass condition_on_prev_tokens=True."
        )
    temperatures = tuple(temperature) if isinstance(temperature, Sequence) else (temperature,)
    if not temperatures or any(value is not None and value < 0 for value in temperatures):
        raise InputError(f"temperature={temperature!r} was given.", "Give a number of at least 0, or several.")
    limits = dict(zip(_THRESHOLDS, (compression_ratio_threshold, logprob_threshold, no_speech_threshold), strict=True))
    limits = {name: said(name, value) for name, value in limits.items()}
    if limits["no_speech_threshold"] is not None and (limits["logprob_threshold"] is None or plain is None):
        raise InputError(
            "no_speech_threshold was given without logprob_threshold.", "Give both: windows are skipped if both say so."
        )
    heads = None
    if return_token_timestamps:
        heads = extra.get("alignment_heads")
        if heads is None:
            raise ConfigError(
                "The model's generation_config names no alignment_heads, by which words are timed.",
                "Set model.generation_config.extra['alignment_heads'] to (layer, head) pairs.",
            )
    start = own.decoder_start_token_id
    if isinstance(generation_config, GenerationConfig) and generation_config.decoder_start_token_id is not None:
        start = generation_config.decoder_start_token_id
    if not isinstance(start, int):
        raise ConfigError("The model's generation_config has no decoder_start_token_id.", "Set it.")
    end = own.eos_token_id
    return Task(
        starts=_starts(model, recordings, start, timestamps, said("task", task), said("language", language), extra),
        timestamps=timestamps,
        plain=plain,
        before=_before(extra, own),
        positions=model.config.max_target_positions,
        end=end if isinstance(end, int) else (end or [-1])[0],
        prompt=_ids(prompt_ids),
        prompt_always=kind == "all-segments",
        conditioned=conditioned,
        temperatures=temperatures,
        compression=limits["compression_ratio_threshold"],
        logprob=limits["logprob_threshold"],
        silence=limits["no_speech_threshold"],
        heads=heads,
        median=model.config.median_filter_width,
        latest=extra.get("max_initial_timestamp_index"),
        passed=generation_config,
        defaults=defaults,
        settings=dict(settings or {}),
        processors=list(logits_processor or ()),
        criteria=list(stopping_criteria or ()),
        progress=monitor_progress,
    )


def detect_languages(model: Any, recordings: Sequence[Recording], languages: Mapping[str, int]) -> list[int]:
    """The id of the language that the model hears in each recording's first window."""
    size, start = _window(model), model_config(model).decoder_start_token_id
    heard: list[int] = []
    for recording in recordings:
        features = recording.window(0, min(size, recording.frames))
        padded = torch.nn.functional.pad(features, (0, size - features.shape[1]))[None]
        with torch.inference_mode():
            states = model.get_encoder()(padded.to(model.device, model.dtype)).last_hidden_state
            logits = model(
                encoder_outputs=BaseModelOutput(states),
                decoder_input_ids=torch.tensor([[start]], device=states.device),
                use_cache=False,
            ).logits[0, -1]
        ids = torch.tensor(sorted(languages.values()), device=logits.device)
        heard.append(int(ids[logits[ids].argmax()]))
    return heard


def _window(model: Any) -> int:
    return 2 * int(model.config.max_source_positions)


def _timestamps(asked: bool | None, usual: bool, long: bool, plain: int | None) -> bool:
    if long and asked is False:
        raise InputError(
            "A recording is longer than the model's window, and return_timestamps=False was given.",
            "Leave it out: long recordings are cut at timestamps. Or cut them yourself.",
        )
    wanted = long or bool(usual if asked is None else asked)
    if wanted and plain is None:
        raise ConfigError(
            "Timestamps are needed, and the model's generation_config has no no_timestamps_token_id.",
            "Use the generation_config.json that belongs to the model.",
        )
    return wanted


def _starts(
    model: Any,
    recordings: Sequence[Recording],
    start: int,
    timestamps: bool,
    task: str | None,
    language: str | Sequence[str] | None,
    extra: Mapping[str, Any],
) -> list[list[int]]:
    """The decoder's first tokens for each recording: start, language, task, and whether timestamps follow."""
    begun = [start]
    if task is None and language is None:
        # What older files say in place of language and task.
        begun += [token for _, token in extra.get("forced_decoder_ids") or () if token is not None]
    rows = [list(begun) for _ in recordings]
    languages = extra.get("lang_to_id")
    tasks = extra.get("task_to_id") or {}
    if language is not None:
        named = [language] * len(rows) if isinstance(language, str) else list(language)
        if len(named) != len(rows):
            raise InputError(f"{len(named)} languages were given for {len(rows)} recordings.", "Give one for each.")
        ids = [_language(name, languages) for name in named]
    elif languages and len(begun) == 1:
        ids = detect_languages(model, recordings, languages)
    else:
        ids = []
    for row, token in zip(rows, ids, strict=False):
        row[1:2] = [token]
    if task is not None and task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, 1) or TASKS
        raise InputError(f"task={task!r} is no task of Whisper.", f"Use {' or '.join(map(repr, near))}.")
    if task is not None and task not in tasks:
        raise ConfigError(f"The model's generation_config has no id of the task {task!r}.", "Leave task out.")
    plain = extra.get("no_timestamps_token_id")
    for row in rows:
        if task is not None:
            kept = [token for token in row if token not in tasks.values()]
            row[:] = [*kept, tasks[task]]
        elif language is not None and tasks and not set(tasks.values()) & set(row):
            row.append(tasks["transcribe"])
        if not timestamps and plain is not None and row[-1] != plain:
            row.append(plain)
        elif timestamps and row[-1] == plain:
            row.pop()
    return rows


def _language(name: str, languages: Mapping[str, int] | None) -> int:
    if not languages:
        raise ConfigError(
            "The model's generation_config has no lang_to_id, which gives languages their ids.", "Leave language out."
        )
    token = name.lower() if name.lower() in languages else f"<|{code_of(name)}|>"
    if token not in languages:
        raise InputError(
            f"This model does not know the language {name!r}.",
            f"It knows: {', '.join(sorted(key.strip('<|>') for key in languages))}.",
        )
    return languages[token]


def _before(extra: Mapping[str, Any], own: GenerationConfig) -> int | None:
    found = extra.get("prev_sot_token_id")
    if found is None and own.suppress_tokens and len(own.suppress_tokens) >= 2:
        found = own.suppress_tokens[-2]
    return found


def _ids(prompt: Any) -> list[int]:
    if prompt is None:
        return []
    listed = prompt.tolist() if hasattr(prompt, "tolist") else list(prompt)
    if any(isinstance(token, list) for token in listed):
        raise InputError("prompt_ids hold several rows.", "Give one prompt, for all recordings.")
    return [int(token) for token in listed]
