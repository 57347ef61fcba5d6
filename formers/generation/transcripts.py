"""Whisper's `generate`: from features as tensors to ids as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from formers.errors import ConfigError, InputError, UnsupportedError
from formers.generation.generate import generate as generate_ids
from formers.generation.planning import model_config
from formers.generation.rows import padded
from formers.generation.whisper import Features, Segment, transcribe
from formers.generation.whisper_task import detect_languages, make_task

_REFUSED = {
    "num_return_sequences": "Call generate several times.",
    "streamer": "Read the recording window by window, for example with the pipeline's stream.",
    "assistant_model": "Leave it out.",
    "decoder_input_ids": "Pass prompt_ids, language and task.",
    "encoder_outputs": "Pass input_features.",
}


def generate(
    model: Any,
    input_features: Any,
    attention_mask: Tensor | None,
    return_segments: bool,
    settings: Mapping[str, Any],
    **arguments: Any,
) -> Any:
    """See `SpeechForConditionalGeneration.generate`."""
    for name, remedy in _REFUSED.items():
        if settings.get(name) not in (None, 1):
            raise UnsupportedError(f"generate() was given {name} for sound.", remedy)
    settings = {name: value for name, value in settings.items() if name not in _REFUSED}
    recordings = _recordings(model, input_features, attention_mask)
    task = make_task(model, recordings, settings=settings, **arguments)
    if settings.get("return_dict_in_generate") and not task.timestamps and task.heads is None:
        return generate_ids(
            model,
            None,
            task.passed,
            task.processors,
            task.criteria,
            input_features=input_features.to(model.device),
            decoder_input_ids=[[*task.prompt, *start] for start in task.starts],
            **settings,
        )
    found = transcribe(model, recordings, task)
    pad = model_config(model).pad_token_id
    pad = task.end if pad is None else pad
    tokens = [[token for segment in segments for token in segment.tokens] for segments in found]
    sequences = padded(tokens, pad, left=False) if any(tokens) else torch.zeros(len(tokens), 0, dtype=torch.long)
    if not (return_segments or task.heads is not None):
        return sequences
    answer: dict[str, Any] = {"sequences": sequences}
    if task.heads is not None:
        times = [[time for segment in segments for time in segment.times or ()] for segments in found]
        filled = [row + [row[-1] if row else 0.0] * (sequences.shape[1] - len(row)) for row in times]
        answer["token_timestamps"] = torch.tensor(filled)
    if return_segments:
        answer["segments"] = [[_as_dict(segment) for segment in segments] for segments in found]
    return answer


def languages(model: Any, input_features: Tensor) -> Tensor:
    """See `SpeechForConditionalGeneration.detect_language`."""
    known = model_config(model).extra.get("lang_to_id")
    if not known:
        raise ConfigError("The model's generation_config has no lang_to_id.", "Use a multilingual model.")
    return torch.tensor(detect_languages(model, _recordings(model, input_features, None), known))


def _recordings(model: Any, features: Any, mask: Tensor | None) -> list[Features]:
    bands = model.config.num_mel_bins
    if not isinstance(features, Tensor) or features.dim() != 3 or features.shape[1] != bands or not features.shape[2]:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(
            f"input_features has the shape {got}; (batch, {bands}, frames) is expected.",
            "Make them with the model's feature extractor and return_tensors='pt'.",
        )
    count, frames = features.shape[0], features.shape[2]
    long = frames > 2 * model.config.max_source_positions
    if long and count > 1 and mask is None:
        raise InputError(
            "Several long recordings were given without an attention_mask, which says where they end.",
            "Call the feature extractor with return_attention_mask=True.",
        )
    real: Sequence[int | None] = [None] * count if mask is None else mask.sum(-1).tolist()
    ends = [frames if real[row] is None or count == 1 or not long else int(real[row] or 0) for row in range(count)]
    return [Features(features[row], ends[row], real[row]) for row in range(count)]


def _as_dict(segment: Segment) -> dict[str, Any]:
    values: dict[str, Any] = {
        "start": torch.tensor(segment.start, dtype=torch.float64),
        "end": torch.tensor(segment.end, dtype=torch.float64),
        "tokens": torch.tensor(segment.tokens),
        "idxs": segment.place,
    }
    if segment.times is not None:
        values["token_timestamps"] = torch.tensor(segment.times)
    return values
