"""Transcripts by Whisper: window after window of a recording, as section 3.8 of Radford et al. (2022) describes.

A window of 30 s is decoded; what lies before its last timestamp is kept, and the next window begins there. A text that
repeats itself or that the model does not believe in is decoded again at higher temperatures.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from formers.errors import InputError
from formers.generation.alignment import token_times
from formers.generation.config import GenerationConfig
from formers.generation.generate import continuations, generate
from formers.generation.planning import Call
from formers.generation.processing import LogitsProcessor
from formers.generation.timestamps import WhisperTimeStampLogitsProcessor
from formers.outputs import BaseModelOutput

# Seconds of a state of the encoder, and of a timestamp; frames of a state.
STEP, STRIDE = 0.02, 2
# Below this temperature a text is trusted to be the context of the next.
_TRUSTED = 0.5
# No vocabulary is that large.
_BEYOND = 1 << 30


class Recording(Protocol):
    """Features of one recording, computed when they are asked for.

    frames: how many there are. real: how many of them are sound, None if that is not known.
    """

    frames: int
    real: int | None

    def window(self, start: int, count: int) -> Tensor:
        """Features (bands, count) from frame `start` on."""


@dataclass
class Features:
    """Features (bands, frames) that are there already."""

    values: Tensor
    frames: int
    real: int | None = None

    def window(self, start: int, count: int) -> Tensor:
        """Some of them."""
        return self.values[:, start : start + count]


@dataclass
class Segment:
    """What was said between two timestamps, or in one window: ids with their timestamps, times in seconds.

    times: of each token. place: which tokens these are among those of `window`, prompt included.
    """

    start: float
    end: float
    tokens: list[int]
    times: list[float] | None = None
    place: tuple[int, int] = (0, 0)
    window: list[int] = field(default_factory=list)


@dataclass
class Task:
    """What to do with recordings, checked. `starts` are the decoder's first tokens for each recording.

    plain, before: the ids that ask for no timestamps, and that come before context. `settings` go to generation.
    """

    starts: list[list[int]]
    timestamps: bool
    plain: int | None
    before: int | None
    positions: int
    end: int
    prompt: list[int] = field(default_factory=list)
    prompt_always: bool = False
    conditioned: bool = False
    temperatures: tuple[float | None, ...] = (None,)
    compression: float | None = None
    logprob: float | None = None
    silence: float | None = None
    heads: list[list[int]] | None = None
    median: int = 7
    latest: int | None = None
    passed: GenerationConfig | Mapping[str, Any] | None = None
    defaults: GenerationConfig | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    # New tokens of a window at most, where the settings do not say.
    most: int | None = None
    processors: list[LogitsProcessor] = field(default_factory=list)
    criteria: list[Callable[..., Any]] = field(default_factory=list)
    progress: Callable[[Tensor], None] | None = None

    @property
    def first(self) -> int:
        """The id of the timestamp 0; beyond all ids where there are none."""
        return _BEYOND if self.plain is None else self.plain + 1


@dataclass
class _Row:
    """One recording, and how far it is."""

    recording: Recording
    start: list[int]
    seek: int = 0
    segments: list[Segment] = field(default_factory=list)
    trusted: bool = False


def transcribe(model: Any, recordings: Sequence[Recording], task: Task) -> list[list[Segment]]:
    """The segments of each recording. Windows of several recordings are decoded together."""
    rows = [
        _Row(recording, start, trusted=task.conditioned)
        for recording, start in zip(recordings, task.starts, strict=True)
    ]
    size = model.config.max_source_positions * STRIDE
    while live := [row for row in rows if row.seek < row.recording.frames]:
        if task.progress is not None:
            task.progress(torch.tensor([[row.seek, row.recording.frames] for row in rows]))
        counts = [min(row.recording.frames - row.seek, size) for row in live]
        features = torch.stack(
            [
                F.pad(part, (0, size - part.shape[1])) if part.shape[1] < size else part
                for part in (row.recording.window(row.seek, count) for row, count in zip(live, counts, strict=True))
            ]
        )
        with torch.inference_mode():
            encoded = model.get_encoder()(features.to(model.device, model.dtype)).last_hidden_state
        prompts = [_prompt(row, rows, task) for row in live]
        for row, count, prompt, text in zip(live, counts, prompts, _decode(model, encoded, prompts, task), strict=True):
            row.trusted = task.conditioned and (text.temperature is None or text.temperature < _TRUSTED)
            if text.silent:
                row.seek += count
                continue
            found, moved = _segments(text, row.seek, count, len(prompt), task)
            if task.heads is not None:
                real = None if row.recording.real is None else row.recording.real - row.seek
                _align(model, encoded[text.index : text.index + 1], prompt, text, found, real, row.seek, task)
            row.segments += found
            row.seek += moved
    return [row.segments for row in rows]


@dataclass
class _Text:
    """What one window came to. `tokens` without the end; `whole` with it."""

    index: int
    whole: list[int]
    tokens: list[int]
    temperature: float | None
    silent: bool = False


def _prompt(row: _Row, rows: Sequence[_Row], task: Task) -> list[int]:
    """What the decoder begins a window with: context, and the task."""
    written = bool(rows[0].segments) or bool(task.prompt and not task.prompt_always)
    if any(each.trusted for each in rows) and written:
        tokens = [] if task.prompt_always or not task.prompt else task.prompt[_begins(task.prompt, task.before) :]
        for segment in row.segments:
            doubled = len(segment.tokens) > 2 and segment.tokens[-2] >= task.first
            tokens = tokens + (segment.tokens[:-1] if doubled else segment.tokens)
        begin = task.prompt if task.prompt and task.prompt_always else [] if task.before is None else [task.before]
        kept = tokens[-(task.positions // 2 - 1) :] if row.trusted else []
        return [*begin, *kept, *row.start]
    return [*task.prompt, *row.start]


def _begins(prompt: Sequence[int], before: int | None) -> int:
    return 1 if prompt[0] == before else 0


def _decode(model: Any, encoded: Tensor, prompts: Sequence[list[int]], task: Task) -> list[_Text]:
    """A text for each window, at the first temperature that gives a good one."""
    longest = max(map(len, prompts))
    if longest >= task.positions:
        raise InputError(
            f"The decoder begins with {longest} tokens; the model has {task.positions} positions.",
            "Shorten the prompt.",
        )
    asked = task.settings.get("max_new_tokens") or 0
    if longest + asked > task.positions:
        raise InputError(
            f"The decoder begins with {longest} tokens and is to write {asked} more; the model has {task.positions} "
            "positions.",
            "Shorten the prompt, or ask for fewer new tokens.",
        )
    silence = None if task.silence is None else _silence(model, encoded, prompts, task)
    texts: dict[int, _Text] = {}
    left = list(range(len(prompts)))
    for turn, temperature in enumerate(task.temperatures):
        again = []
        part = encoded if len(left) == len(prompts) else encoded[left]
        found, scores = _generate(model, part, [prompts[index] for index in left], temperature, task)
        for place, index in enumerate(left):
            whole = found[place]
            tokens = whole[:-1] if whole and whole[-1] == task.end else whole
            text = texts[index] = _Text(index, whole, tokens, temperature)
            poor = task.compression is not None and _repetition(whole, model.config.vocab_size) > task.compression
            believed = None if scores is None else scores[place]
            if task.logprob is not None and believed is not None and believed < task.logprob:
                poor = True
                if silence is not None and task.silence is not None and silence[index] > task.silence:
                    text.silent, poor = True, False
            if poor:
                again.append(index)
        left = again
        if not left or turn == len(task.temperatures) - 1:
            break
    return [texts[index] for index in range(len(prompts))]


def _generate(
    model: Any, encoded: Tensor, prompts: Sequence[list[int]], temperature: float | None, task: Task
) -> tuple[list[list[int]], list[float] | None]:
    """New tokens of each prompt, and their mean log-probability where that is asked for."""
    settings = dict(task.settings)
    if task.most is not None:
        settings["max_new_tokens"] = min(task.most, task.positions - max(map(len, prompts)))
    if temperature is not None:
        settings |= {"do_sample": temperature > 0, "temperature": temperature if temperature > 0 else 1.0}
        if temperature > 0:
            settings["num_beams"] = 1
    processors = list(task.processors)
    if task.timestamps and task.plain is not None:
        begin = max(map(len, prompts))
        processors.insert(0, WhisperTimeStampLogitsProcessor(task.first, begin, task.end, task.latest, task.plain))
    call = Call(
        encoder_outputs=BaseModelOutput(encoded),
        decoder_input_ids=list(prompts),
        logits_processor=processors,
        stopping_criteria=task.criteria,
        defaults=task.defaults,
    )
    if task.logprob is None:
        return [texts[0] for texts in continuations(model, call, task.passed, settings)], None
    settings |= {"return_dict_in_generate": True, "output_scores": True}
    out = generate(
        model,
        None,
        task.passed,
        processors,
        task.criteria,
        encoder_outputs=BaseModelOutput(encoded),
        decoder_input_ids=list(prompts),
        **settings,
    )
    width = max(map(len, prompts))
    rows = [_until(row, task.end) for row in out.sequences[:, width:].tolist()]
    if getattr(out, "sequences_scores", None) is not None:
        return rows, out.sequences_scores.tolist()
    factor = temperature if temperature else 1.0
    means = []
    for place, row in enumerate(rows):
        scores = torch.stack([step[place] for step in out.scores[: len(row)]]) * factor
        chosen = scores.float().log_softmax(-1).gather(1, torch.tensor(row, device=scores.device)[:, None])
        means.append(float(chosen.sum()) / max(len(row), 1))
    return rows, means


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row


def _silence(model: Any, encoded: Tensor, prompts: Sequence[list[int]], task: Task) -> list[float]:
    """How likely the model finds it, for each window, that nothing is said. Its token stands before `plain`."""
    assert task.plain is not None
    found = []
    with torch.inference_mode():
        for index, prompt in enumerate(prompts):
            begun = prompt[: len(prompt) - len(task.starts[0]) + 1]
            logits = model(
                encoder_outputs=BaseModelOutput(encoded[index : index + 1]),
                decoder_input_ids=torch.tensor([begun], device=encoded.device),
                use_cache=False,
                logits_to_keep=1,
            ).logits
            found.append(float(logits[0, -1].float().softmax(-1)[task.plain - 1]))
    return found


def _repetition(tokens: Sequence[int], vocabulary: int) -> float:
    """How much smaller the ids become when they are compressed."""
    width = int(math.log2(vocabulary) / 8) + 1
    raw = b"".join(token.to_bytes(width, "little") for token in tokens)
    return len(raw) / len(zlib.compress(raw))


def _segments(text: _Text, seek: int, count: int, prompt: int, task: Task) -> tuple[list[Segment], int]:
    """The segments of a window, and by how many frames to go on."""
    tokens, first = text.tokens, task.first
    offset = seek * STEP / STRIDE
    is_time = [token >= first for token in tokens]
    single = is_time[-2:] == [False, True]
    cuts = [place + 1 for place in range(len(tokens) - 1) if is_time[place] and is_time[place + 1]]
    if not cuts:
        last: float = int(count * STEP / STRIDE / STEP)
        times = [place for place, time in enumerate(is_time) if time]
        if times and tokens[times[-1]] != first:
            last = tokens[times[-1]] - first
        return [Segment(offset, offset + last * STEP, tokens, None, (prompt, prompt + len(tokens)))], count
    if single:
        cuts.append(len(tokens))
    else:
        # The last timestamp stays in the last segment, so that its end is known to be no single one.
        cuts[-1] += 1
    segments, begin = [], 0
    for cut in cuts:
        part = tokens[begin:cut]
        closing = part[-1] if cut != cuts[-1] or single else part[-2]
        start, end = ((token - first) * STEP + offset for token in (part[0], closing))
        segments.append(Segment(start, end, part, None, (prompt + begin, prompt + cut)))
        begin = cut
    return segments, count if single else (tokens[begin - 2] - first) * STRIDE


def _align(
    model: Any,
    encoded: Tensor,
    prompt: Sequence[int],
    text: _Text,
    found: Sequence[Segment],
    real: int | None,
    seek: int,
    task: Task,
) -> None:
    """Give the tokens of segments their times."""
    assert task.heads is not None
    ids = [*prompt, *text.whole]
    with torch.inference_mode():
        maps = model(
            encoder_outputs=BaseModelOutput(encoded),
            decoder_input_ids=torch.tensor([ids[:-1]], device=encoded.device),
            output_attentions=True,
            use_cache=False,
            logits_to_keep=1,
        ).cross_attentions
    states = None if real is None else max(real, 0) // STRIDE
    times = token_times([each.cpu() for each in maps], task.heads, len(prompt), states, task.median, STEP)
    offset = seek * STEP / STRIDE
    for segment in found:
        low, high = segment.place
        segment.times = [time + offset for time in times[low:high]]
        segment.window = ids
