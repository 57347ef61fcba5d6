"""`WhisperProcessor`: a feature extractor and a tokenizer, loaded and saved together."""

from __future__ import annotations

import os
from typing import Any

from formers.audio.extractor import WhisperFeatureExtractor
from formers.errors import InputError
from formers.tokenization import AutoTokenizer, BatchEncoding


class WhisperProcessor:
    """Sound to features and text to ids, in one call; `decode` and `batch_decode` are the tokenizer's."""

    def __init__(self, feature_extractor: WhisperFeatureExtractor, tokenizer: Any) -> None:
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer

    def __call__(
        self, audio: Any = None, *, text: Any = None, sampling_rate: int | None = None, **settings: Any
    ) -> Any:
        """Features of `audio`, or ids of `text`; of both, the features with the ids as "labels".

        Settings are those of the feature extractor; where there is no audio, those of the tokenizer.
        """
        if audio is None and text is None:
            raise InputError("Neither audio nor text was given.", "Pass samples, a text, or both.")
        if audio is None:
            return self.tokenizer(text, **settings)
        inputs = self.feature_extractor(audio, sampling_rate=sampling_rate, **settings)
        if text is not None:
            tensors = settings.get("return_tensors")
            labels: BatchEncoding = self.tokenizer(text, return_tensors=tensors, padding=tensors is not None)
            inputs["labels"] = labels["input_ids"]
        return inputs

    def decode(self, *args: Any, **settings: Any) -> Any:
        """The tokenizer's."""
        return self.tokenizer.decode(*args, **settings)

    def batch_decode(self, *args: Any, **settings: Any) -> Any:
        """The tokenizer's."""
        return self.tokenizer.batch_decode(*args, **settings)

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> Any:
        """The tokenizer's."""
        return self.tokenizer.get_decoder_prompt_ids(task=task, language=language, no_timestamps=no_timestamps)

    def get_prompt_ids(self, text: str, return_tensors: Any = "np") -> Any:
        """The tokenizer's."""
        return self.tokenizer.get_prompt_ids(text, return_tensors=return_tensors)

    @property
    def model_input_names(self) -> list[str]:
        """The names of what the model reads."""
        return list(self.feature_extractor.model_input_names)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **settings: Any
    ) -> WhisperProcessor:
        """Load both of a model; settings say where it is, as in every `from_pretrained`."""
        return cls(
            WhisperFeatureExtractor.from_pretrained(pretrained_model_name_or_path, **settings),
            AutoTokenizer.from_pretrained(pretrained_model_name_or_path, **settings),
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[str]:
        """Write both into a folder, and give the paths of its files."""
        extractor = self.feature_extractor
        named = {**extractor.to_dict(), "processor_class": type(self).__name__}
        files = WhisperFeatureExtractor.from_dict(named).save_pretrained(save_directory)
        return [*files, *self.tokenizer.save_pretrained(save_directory)]
