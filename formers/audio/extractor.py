"""`WhisperFeatureExtractor`: sound to the log-mel features that Whisper reads."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formers.audio.batch import BatchFeature
from formers.audio.mel import LogMel, bands
from formers.audio.samples import mono
from formers.errors import ConfigError, InputError
from formers.hub import ModelFiles, Source, resolve
from formers.hub.atomic import write_json

logger = logging.getLogger("formers")

CONFIG_FILE = "preprocessor_config.json"
# Where newer files of the reference keep the same settings, under "feature_extractor".
PROCESSOR_FILE = "processor_config.json"


@dataclass
class WhisperFeatureExtractor:
    """Log-mel features of recordings of `chunk_length` seconds at most; further settings are kept and written back."""

    feature_size: int = 80
    sampling_rate: int = 16000
    hop_length: int = 160
    chunk_length: int = 30
    n_fft: int = 400
    padding_value: float = 0.0
    dither: float = 0.0
    return_attention_mask: bool = False
    padding_side: str = "right"
    further: dict[str, Any] = field(default_factory=dict)

    model_input_names = ("input_features",)

    def __post_init__(self) -> None:
        for name in ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} = {value!r} was given.", f"Give a whole number in {CONFIG_FILE}.")
        if self.padding_side not in ("left", "right"):
            raise ConfigError(f"padding_side = {self.padding_side!r} was given.", "Use 'left' or 'right'.")
        self.log_mel = LogMel(self.feature_size, self.sampling_rate, self.n_fft, self.hop_length)

    @property
    def n_samples(self) -> int:
        """Samples of the longest recording that is read at once."""
        return self.chunk_length * self.sampling_rate

    @property
    def nb_max_frames(self) -> int:
        """Frames of the longest recording that is read at once."""
        return self.n_samples // self.hop_length

    @property
    def mel_filters(self) -> NDArray[np.float32]:
        """The filters (n_fft // 2 + 1, feature_size)."""
        filters: NDArray[np.float32] = bands(self.feature_size, self.n_fft, self.sampling_rate).numpy()
        return filters

    def __call__(
        self,
        raw_speech: Any,
        truncation: bool = True,
        pad_to_multiple_of: int | None = None,
        return_tensors: Any = None,
        return_attention_mask: bool | None = None,
        padding: bool | str | None = "max_length",
        max_length: int | None = None,
        sampling_rate: int | None = None,
        do_normalize: bool | None = None,
        device: str | torch.device | None = "cpu",
    ) -> BatchFeature:
        """Features (B, feature_size, frames) of one recording or several, and with it an attention mask (B, frames).

        raw_speech: samples of one channel in an array, a tensor or a list, or several of these. Whole numbers in an
        array are taken as the values of their type, from -1 to 1.
        padding: "max_length" (to `max_length` samples, by default `chunk_length` seconds), "longest" or True, or
        "do_not_pad" or False. truncation: cut recordings to `max_length` samples. do_normalize: each recording to
        mean 0 and variance 1. return_tensors: "pt", or "np" as without it.
        """
        self._check_rate(sampling_rate)
        kind = getattr(return_tensors, "value", return_tensors)
        if kind not in (None, "pt", "np"):
            raise InputError(f"return_tensors={return_tensors!r} was given.", "Use 'pt' (torch) or 'np' (NumPy).")
        waves = [mono(wave) for wave in _each(raw_speech)]
        limit = _multiple(max_length or self.n_samples, pad_to_multiple_of)
        if truncation:
            waves = [wave[:limit] for wave in waves]
        if do_normalize:
            waves = [(wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt() for wave in waves]
        length = self._length(padding, [len(wave) for wave in waves], limit, pad_to_multiple_of)
        samples, mask = self._padded(waves, length)
        if self.dither:
            samples = samples + self.dither * torch.randn_like(samples)
        features = self.log_mel(samples if device is None else samples.to(device)).cpu()
        batch = BatchFeature(input_features=features)
        wants_mask = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        if wants_mask:
            batch["attention_mask"] = mask[:, :: self.hop_length][:, : features.shape[-1]]
        if kind != "pt":
            batch = BatchFeature({name: value.numpy() for name, value in batch.items()})
        return batch

    def _check_rate(self, rate: int | None) -> None:
        if rate is None:
            logger.warning(
                "Features are computed of samples without a sampling_rate, which are taken to be at "
                f"{self.sampling_rate} Hz. Pass sampling_rate= to have it checked."
            )
        elif rate != self.sampling_rate:
            raise InputError(
                f"The recording has {rate} samples a second; this model reads {self.sampling_rate}.",
                f"Resample it: formers.audio.resampling.resample(samples, {rate}, {self.sampling_rate}).",
            )

    def _length(self, padding: bool | str | None, lengths: Sequence[int], limit: int, multiple: int | None) -> int:
        """Samples of every row."""
        named = getattr(padding, "value", padding)
        if named == "max_length":
            length = max(limit, *lengths)
        elif named in (True, "longest"):
            length = _multiple(max(lengths), multiple)
        elif named in (False, None, "do_not_pad"):
            if len(set(lengths)) > 1:
                raise InputError(
                    f"The recordings have {min(lengths)} to {max(lengths)} samples and are not to be padded.",
                    "Use padding='longest' or 'max_length', or pass one at a time.",
                )
            length = lengths[0]
        else:
            raise InputError(f"padding={padding!r} was given.", "Use 'max_length', 'longest' or 'do_not_pad'.")
        if length <= self.n_fft // 2:
            raise InputError(
                f"A recording of {length} samples is too short for a spectrum of {self.n_fft}.",
                "Use padding='max_length'.",
            )
        return length

    def _padded(self, waves: Sequence[Tensor], length: int) -> tuple[Tensor, Tensor]:
        """The samples (B, length), and which of them are real, as int32."""
        if len(waves) == 1 and len(waves[0]) == length:
            return waves[0][None], torch.ones(1, length, dtype=torch.int32)
        samples = torch.full((len(waves), length), self.padding_value)
        mask = torch.zeros(len(waves), length, dtype=torch.int32)
        for row, wave in enumerate(waves):
            place = slice(0, len(wave)) if self.padding_side == "right" else slice(length - len(wave), length)
            samples[row, place] = wave
            mask[row, place] = 1
        return samples, mask

    # Files.

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        **settings: Any,
    ) -> WhisperFeatureExtractor:
        """Load the settings of a model: a folder, an installed package or a name on the hub. `settings` change them."""
        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download)
        return cls.from_dict({**read_settings(resolve(pretrained_model_name_or_path, source)), **settings})

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> WhisperFeatureExtractor:
        """An extractor with settings by name."""
        known = {entry.name for entry in fields(cls)} - {"further"}
        further = {name: value for name, value in settings.items() if name not in known}
        return cls(**{name: value for name, value in settings.items() if name in known}, further=further)

    def to_dict(self) -> dict[str, Any]:
        """The settings by name."""
        values = asdict(self)
        return {**values.pop("further"), **values, "feature_extractor_type": type(self).__name__}

    def to_json_string(self) -> str:
        """The settings as JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[str]:
        """Write the settings into a folder, and give the paths of its files."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        return [str(write_json(folder / CONFIG_FILE, self.to_dict(), sort_keys=True))]


def read_settings(files: ModelFiles) -> dict[str, Any]:
    """The settings of a model's feature extractor."""
    if files.find(CONFIG_FILE) is None and files.find(PROCESSOR_FILE) is not None:
        settings = files.read_json(PROCESSOR_FILE).get("feature_extractor")
        if isinstance(settings, dict):
            return settings
    return files.read_json(CONFIG_FILE)


def _each(given: Any) -> list[Any]:
    """The recordings in the argument of a call."""
    if isinstance(given, (np.ndarray, Tensor)):
        if given.ndim > 2:
            raise InputError(
                f"The samples have the shape {tuple(given.shape)}.", "Pass one channel, (samples,), or rows of them."
            )
        return list(given) if given.ndim == 2 else [given]
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        if not len(given):
            return [given]
        return list(given) if isinstance(given[0], (np.ndarray, Tensor, Sequence)) else [given]
    raise InputError(
        f"The samples are of type {type(given).__name__}.",
        "Pass an array, a tensor or a list of numbers; files are read by formers.audio.files.read.",
    )


def _multiple(length: int, of: int | None) -> int:
    return length if of is None else -(-length // of) * of
