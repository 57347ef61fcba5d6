"""Text from sound: automatic-speech-recognition."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.request import urlopen

import numpy as np
import torch
from torch import Tensor

from formers.audio.extractor import WhisperFeatureExtractor
from formers.audio.files import wave_of
from formers.audio.mel import LogMel
from formers.audio.resampling import resample
from formers.audio.samples import Held, Wave, mono
from formers.errors import InputError, UnsupportedError
from formers.generation.config import GenerationConfig, over
from formers.generation.config import names as setting_names
from formers.generation.whisper import Features, Recording, transcribe
from formers.generation.whisper_task import make_task
from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.batching import in_order
from formers.pipelines.encoding import TextOptions
from formers.pipelines.transcripts import Merger, Transcript

# Settings where neither the call nor the model says anything, as in the reference.
_BEAMS, _NEW_TOKENS = 5, 256
# Windows of 30 s that are decoded together.
_TOGETHER = 8
# Bytes and seconds that a download may take.
_LARGEST, _PATIENCE = 1 << 30, 60
_WHISPER_SETTINGS = frozenset(
    {
        "task",
        "language",
        "is_multilingual",
        "prompt_ids",
        "prompt_condition_type",
        "condition_on_prev_tokens",
        "temperature",
        "compression_ratio_threshold",
        "logprob_threshold",
        "no_speech_threshold",
        "generation_config",
        "logits_processor",
        "stopping_criteria",
        "monitor_progress",
    }
)


@dataclass(frozen=True)
class SpeechOptions(TextOptions):
    """What a call takes beside the arguments of the model's `generate`, alone or in the dictionary `generate_kwargs`.

    chunk_length_s, stride_length_s: cut recordings into pieces of so many seconds that overlap by strides (one number,
    or left and right; a sixth of the length), decoded together; else long recordings are read window by window.
    return_timestamps: True for the times of segments, "word" for those of words. return_language: the language of each
    segment. allow_urls: let recordings be fetched from the web. `ignore_warning` changes nothing.
    """

    chunk_length_s: float = 0
    stride_length_s: float | Sequence[float] | None = None
    ignore_warning: bool | None = None
    return_timestamps: bool | str | None = None
    return_language: bool | None = None
    allow_urls: bool = False
    decoder_kwargs: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.return_timestamps not in (None, False, True, "word"):
            raise InputError(
                f"return_timestamps={self.return_timestamps!r} was given.", "Use True for segments, 'word' for words."
            )
        if self.decoder_kwargs:
            raise UnsupportedError("decoder_kwargs was given.", "Leave it out: there is no separate decoder.")
        if self.chunk_length_s < 0:
            raise InputError(f"chunk_length_s={self.chunk_length_s} was given.", "Give seconds, such as 30.")


@dataclass
class Piece:
    """One recording, or `length` samples of it. `stride`: samples in all, and of both overlaps."""

    wave: Wave
    start: int
    length: int
    stride: tuple[int, int, int] | None = None


class Sound:
    """A recording whose features are computed window by window, as parts of those of the whole."""

    def __init__(self, wave: Wave, log_mel: LogMel) -> None:
        self.wave, self.log_mel = wave, log_mel
        self.frames = wave.length // log_mel.hop
        self.real: int | None = self.frames
        self.loudest = log_mel.loudest(wave)

    def window(self, start: int, count: int) -> Tensor:
        """Features (bands, count) from frame `start` on."""
        return self.log_mel.scaled(self.log_mel.logarithms(self.wave, start, count), self.loudest)


class AutomaticSpeechRecognitionPipeline(Pipeline[Any]):
    """Write down what is said in recordings.

    A recording is the path of a file, the bytes of one, samples (N,) or (channels, N) at the model's rate, or
    {"array" or "raw": samples, "sampling_rate": rate}, which is resampled. The answer is {"text": …}, with "chunks" of
    {"text", "timestamp"} if `return_timestamps` or `return_language` is given.
    """

    Options: ClassVar[type[Any]] = SpeechOptions
    # Recordings that are read at once, at most.
    window = 16
    further = setting_names() | _WHISPER_SETTINGS

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        feature_extractor: WhisperFeatureExtractor | None = None,
        **options: Any,
    ) -> None:
        name = getattr(model.config, "name_or_path", "")
        if feature_extractor is None and not name:
            raise InputError(
                "A pipeline for sound needs a feature extractor.",
                "Pass feature_extractor=AutoFeatureExtractor.from_pretrained(...).",
            )
        if feature_extractor is None or isinstance(feature_extractor, (str, os.PathLike)):
            feature_extractor = WhisperFeatureExtractor.from_pretrained(feature_extractor or name)
        self.feature_extractor = feature_extractor
        super().__init__(model, tokenizer, **options)
        self.generation_defaults = GenerationConfig(num_beams=_BEAMS)

    def is_single(self, inputs: Any) -> bool:
        """Whether `inputs` is one recording."""
        return isinstance(inputs, (np.ndarray, Tensor, os.PathLike)) or super().is_single(inputs)

    def options(self, given: Mapping[str, Any]) -> SpeechOptions:
        """The pipeline's options, changed by those given; arguments of `generate` are put together in `settings`."""
        given = dict(given)
        settings = {name: given.pop(name) for name in sorted(self.further & given.keys())}
        named = dict(given.pop("generate_kwargs", None) or {})
        if "return_timestamps" in named:
            given.setdefault("return_timestamps", named.pop("return_timestamps"))
        unknown = sorted(named.keys() - self.further)
        if unknown:
            raise InputError(f"generate_kwargs holds {unknown[0]!r}.", "See the model's generate() for its arguments.")
        chosen: SpeechOptions = super().options(given)
        return replace(chosen, settings=over(chosen.settings, {**named, **settings}))

    # The three steps.

    def preprocess(self, inputs: Sequence[Any], options: SpeechOptions) -> list[Prepared]:
        """Read recordings, and cut them into pieces if that is asked for."""
        prepared = []
        for item in inputs:
            wave, stride, others = self._wave(item, options)
            whole = Piece(wave, 0, wave.length, stride)
            pieces: list[Any] = self._pieces(wave, options) if options.chunk_length_s else [whole]
            prepared.append(Prepared(pieces, others))
        return prepared

    def forward(self, rows: Sequence[Any], options: SpeechOptions) -> Sequence[Transcript]:
        """A transcript for each piece."""
        recordings = self._recordings(rows)
        settings = {name: value for name, value in options.settings.items() if name not in _WHISPER_SETTINGS}
        arguments = {name: value for name, value in options.settings.items() if name in _WHISPER_SETTINGS}
        by_word = options.return_timestamps == "word"
        task = make_task(
            self.bare_model,
            recordings,
            return_timestamps=None if options.return_timestamps is None else bool(options.return_timestamps),
            return_token_timestamps=by_word,
            defaults=self.generation_defaults,
            settings=settings,
            **arguments,
        )
        if not {"max_new_tokens", "max_length"} & settings.keys():
            task.most = _NEW_TOKENS
        found = transcribe(self.bare_model, recordings, task)
        rate, languages = self.feature_extractor.sampling_rate, self._languages()
        transcripts = []
        for row, segments, start in zip(rows, found, task.starts, strict=True):
            tokens = [token for segment in segments for token in segment.tokens]
            times = [time for segment in segments for time in segment.times or ()] if by_word else None
            named = [token for token in start if token in languages] if options.return_language else []
            if times is not None:
                times = [0.0] * len(named) + times
            stride = None if row.stride is None else tuple(value / rate for value in row.stride)
            transcripts.append(Transcript(named + tokens, times, stride))
        return transcripts

    def postprocess(self, prepared: Prepared, outputs: Sequence[Transcript], options: SpeechOptions) -> Any:
        """Text, and chunks if asked for."""
        step = self.feature_extractor.chunk_length / self.model.config.max_source_positions
        timestamps = options.return_timestamps or False
        text, chunks = Merger(self.tokenizer, timestamps, bool(options.return_language), step).result(outputs)
        answer: dict[str, Any] = {"text": text}
        if chunks is not None:
            answer["chunks"] = chunks
        return {**answer, **{name: [value] for name, value in prepared.source.items()}}

    def _groups(self, rows: Sequence[Any], size: int | None) -> list[list[int]]:
        # Recordings longer than a window need timestamps; they would give some to shorter ones beside them.
        kinds: tuple[list[int], list[int]] = ([], [])
        for index, row in enumerate(rows):
            kinds[row.length > self.feature_extractor.n_samples].append(index)
        batches = ((kind, batch) for kind in kinds for batch in in_order(len(kind), size or _TOGETHER))
        return [[kind[place] for place in batch] for kind, batch in batches]

    # Recordings.

    def _wave(self, item: Any, options: SpeechOptions) -> tuple[Wave, tuple[int, int, int] | None, dict[str, Any]]:
        """A recording at the model's rate, the stride that came with them, and what else did."""
        rate = self.feature_extractor.sampling_rate
        if isinstance(item, str) and item.startswith(("http://", "https://")):
            item = _fetched(item, options.allow_urls)
        if isinstance(item, (str, bytes, os.PathLike)):
            return wave_of(item, rate), None, {}
        if not isinstance(item, Mapping):
            return Held(mono(item)), None, {}
        others = {name: value for name, value in item.items() if name != "path"}
        given = others.pop("raw", None)
        given = others.pop("array", None) if given is None else given
        own, stride = others.pop("sampling_rate", None), others.pop("stride", None)
        if given is None or own is None:
            raise InputError(
                f"A recording is a dictionary of {', '.join(map(repr, item)) or 'nothing'}.",
                'Pass {"array": samples, "sampling_rate": rate}.',
            )
        samples = mono(given)
        if stride is None:
            return Held(resample(samples, own, rate)), None, others
        if sum(stride) > len(samples):
            raise InputError(f"A stride of {stride} samples was given for {len(samples)} samples.", "Make it smaller.")
        samples = resample(samples, own, rate)
        left, right = (round(value * rate / own) for value in stride)
        return Held(samples), (len(samples), left, right), others

    def _pieces(self, wave: Wave, options: SpeechOptions) -> list[Piece]:
        rate, length = self.feature_extractor.sampling_rate, options.chunk_length_s
        stride = length / 6 if options.stride_length_s is None else options.stride_length_s
        both = [stride, stride] if isinstance(stride, (int, float)) else list(stride)
        size, left, right = (round(seconds * rate) for seconds in (length, *both))
        if size <= left + right or size > self.feature_extractor.n_samples:
            raise InputError(
                f"Pieces of {length:g} s with strides of {both[0]:g} and {both[1]:g} s were asked for.",
                f"Give chunk_length_s up to {self.feature_extractor.chunk_length}, longer than both strides together.",
            )
        pieces = []
        for start in range(0, wave.length, size - left - right):
            count = min(size, wave.length - start)
            last = start + size >= wave.length
            before = left if start else 0
            if count > before:
                pieces.append(Piece(wave, start, count, (count, before, 0 if last else right)))
            if last:
                break
        return pieces

    def _recordings(self, pieces: Sequence[Piece]) -> list[Recording]:
        extractor = self.feature_extractor
        short = [piece for piece in pieces if piece.length <= extractor.n_samples]
        features: list[Tensor] = []
        if short:
            padded = torch.zeros(len(short), extractor.n_samples)
            for row, piece in zip(padded, short, strict=True):
                row[: piece.length] = piece.wave.part(piece.start, piece.start + piece.length)
            features = list(extractor.log_mel(padded))
        found = iter(features)
        return [
            Features(next(found), extractor.nb_max_frames, math.ceil(piece.length / extractor.hop_length))
            if piece.length <= extractor.n_samples
            else Sound(piece.wave, extractor.log_mel)
            for piece in pieces
        ]

    def _languages(self) -> set[int]:
        return set((self.bare_model.generation_config.extra.get("lang_to_id") or {}).values())

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Write the model, the tokenizer and the feature extractor into a folder."""
        super().save_pretrained(save_directory, **options)
        self.feature_extractor.save_pretrained(save_directory)


def _fetched(url: str, allowed: bool) -> bytes:
    """The bytes at an address, if they may be fetched."""
    if not allowed:
        raise InputError(
            f"The recording {url!r} lies on the web, and nothing is fetched unasked.",
            "Pass allow_urls=True, or the path of a file.",
        )
    try:
        with urlopen(url, timeout=_PATIENCE) as answer:
            data: bytes = answer.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"{url} cannot be fetched: {error}.", "Check the address and the connection.") from error
    if len(data) > _LARGEST:
        raise InputError(f"{url} is larger than {_LARGEST} bytes.", "Fetch it yourself, and pass the path of the file.")
    return data
