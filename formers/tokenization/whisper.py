"""Whisper's tokenizer: byte-level BPE, with tokens for the language, the task and the time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import AddedToken, Tokenizer, processors

from formers.errors import ConfigError, InputError
from formers.tokenization import build, languages, timestamps
from formers.tokenization.build import Recipe
from formers.tokenization.families import files
from formers.tokenization.special import Token
from formers.tokenization.tensors import to_python
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

LANGUAGES = languages.WHISPER
TO_LANGUAGE_CODE = {**{name: code for code, name in LANGUAGES.items()}, **languages.WHISPER_ALIASES}
TASKS = ("translate", "transcribe")

_END = AddedToken("<|endoftext|>", normalized=False, special=True)
_TIMESTAMP = re.compile(r"<\|\d+\.\d+\|>")


def code_of(language: str) -> str:
    """The code of a language that is given as a code or an English name. InputError for one that Whisper lacks."""
    name = language.lower()
    code = TO_LANGUAGE_CODE.get(name, name)
    if code not in LANGUAGES:
        raise languages.unknown_language(language, LANGUAGES, TO_LANGUAGE_CODE)
    return code


class WhisperTokenizer(PreTrainedTokenizerFast):
    """Byte-level BPE whose texts start with what the model is to do.

    Options: `language` (code or English name), `task` ("transcribe" or "translate"), `predict_timestamps`,
    `add_prefix_space`. `normalizer_file`: American spellings by British ones, for `normalize`.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        **files("vocab.json", "merges.txt"),
        "normalizer_file": "normalizer.json",
    }
    optional_files: ClassVar[tuple[str, ...]] = ("normalizer_file",)
    special_defaults: ClassVar[Mapping[str, Token]] = {"unk_token": _END, "bos_token": _END, "eos_token": _END}
    options: ClassVar[Mapping[str, Any]] = {
        "add_prefix_space": False,
        "errors": "replace",
        "language": None,
        "task": None,
        "predict_timestamps": False,
    }
    recipe: ClassVar[Recipe | None] = Recipe(build.byte_level, None)

    language: str | None
    task: str | None
    predict_timestamps: bool

    def _set_up(self, settings: dict[str, Any]) -> None:
        self.english_spelling_normalizer = _spellings(settings.pop("normalizer_file", None))
        super()._set_up(settings)
        self.set_prefix_tokens()

    def set_prefix_tokens(
        self, language: str | None = None, task: str | None = None, predict_timestamps: bool | None = None
    ) -> None:
        """Change what texts start with from now on; None leaves a setting as it is."""
        given = {"language": language, "task": task, "predict_timestamps": predict_timestamps}
        for name, value in given.items():
            setattr(self, name, getattr(self, name) if value is None else value)
        ids = self.prefix_tokens
        tokens = list(zip(self.convert_ids_to_tokens(ids), ids, strict=True))
        end = (str(self.eos_token), self.eos_token_id)
        before = [f"{token}:0" for token, _ in tokens]
        frame = processors.TemplateProcessing(
            single=[*before, "$A:0", f"{end[0]}:0"],
            pair=[*before, "$A:0", "$B:1", f"{end[0]}:1"],
            special_tokens=list(dict.fromkeys([*tokens, end])),
        )

        def set_frame(engine: Tokenizer) -> None:
            engine.post_processor = frame

        self._engines.change(set_frame)

    @property
    def prefix_tokens(self) -> list[int]:
        """The ids that texts start with: "<|startoftranscript|>", language, task and "<|notimestamps|>"."""
        tokens = ["<|startoftranscript|>"]
        if self.language is not None:
            tokens.append(f"<|{code_of(self.language)}|>")
        if self.task is not None:
            if self.task not in TASKS:
                raise InputError(f"task={self.task!r} is no task of Whisper.", "Use 'transcribe' or 'translate'.")
            tokens.append(f"<|{self.task}|>")
        if not self.predict_timestamps:
            tokens.append("<|notimestamps|>")
        return self.convert_tokens_to_ids(tokens)  # type: ignore[no-any-return]

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> list[tuple[int, int]]:
        """What the decoder is to start with, as (position, id); texts start with it from now on."""
        self.set_prefix_tokens(language, task, not no_timestamps)
        return list(enumerate(self.prefix_tokens))[1:]

    def get_prompt_ids(self, text: str, return_tensors: str | None = "np") -> Any:
        """The ids of a text that goes before the transcript, such as its subject or names that occur."""
        batch = self("<|startofprev|>", " " + text.strip(), add_special_tokens=False)
        special = next((index for index in batch["input_ids"][1:] if index >= self.all_special_ids[0]), None)
        if special is not None:
            raise InputError(
                f"The prompt holds the special token {self.convert_ids_to_tokens(special)!r}.", "Take it out."
            )
        return batch.convert_to_tensors(return_tensors)["input_ids"]

    @property
    def timestamp_begin(self) -> int:
        """The id of the time 0: timestamps follow all other tokens, whether the vocabulary names them or not."""
        last = self._engines.base.token_to_id("<|notimestamps|>")
        return (max(self.all_special_ids) if last is None else last) + 1

    def timestamp_ids(self, time_precision: float = 0.02) -> list[int]:
        """The ids of all times of a window."""
        steps = range(timestamps.WINDOW + 1)
        return self.convert_tokens_to_ids([f"<|{step * time_precision:.2f}|>" for step in steps])  # type: ignore[no-any-return]

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_offsets: bool = False,
        time_precision: float = 0.02,
        decode_with_timestamps: bool = False,
        normalize: bool = False,
        basic_normalize: bool = False,
        remove_diacritics: bool = False,
    ) -> Any:
        """The text of a row of ids; a list of texts for a batch of rows (lists, arrays or tensors).

        skip_special_tokens: without special tokens and a prompt. output_offsets: gives {"text", "offsets"}, the
        offsets a list of {"text", "timestamp"} with times in seconds. decode_with_timestamps: times stay in the text.
        normalize, basic_normalize: as the methods do, `remove_diacritics` with the second.
        """
        ids = to_python(token_ids["input_ids"] if isinstance(token_ids, Mapping) else token_ids)
        rows: Any = [ids] if isinstance(ids, int) else ids
        single = not (rows and isinstance(rows[0], (list, tuple)))
        results: list[Any] = []
        for row in [rows] if single else rows:
            kept = self._without_prompt(list(row)) if skip_special_tokens else list(row)
            if decode_with_timestamps:
                parts = timestamps.annotated(kept, self.timestamp_begin, time_precision)
                text = "".join(
                    part if isinstance(part, str) else super(WhisperTokenizer, self).decode(part, skip_special_tokens)
                    for part in parts
                )
            else:
                text = super().decode(kept, skip_special_tokens, clean_up_tokenization_spaces)
                if normalize:
                    text = self.normalize(text)
                elif basic_normalize:
                    text = self.basic_normalize(text, remove_diacritics)
                text = _TIMESTAMP.sub("", text)
            results.append({"text": text, "offsets": self._offsets(row, time_precision)} if output_offsets else text)
        return results[0] if single else results

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_offsets: bool = False,
        time_precision: float = 0.02,
        decode_with_timestamps: bool = False,
        normalize: bool = False,
        basic_normalize: bool = False,
        remove_diacritics: bool = False,
    ) -> list[Any]:
        """What `decode` gives for each row of ids."""
        results = self.decode(
            sequences,
            skip_special_tokens,
            clean_up_tokenization_spaces,
            output_offsets,
            time_precision,
            decode_with_timestamps,
            normalize,
            basic_normalize,
            remove_diacritics,
        )
        return results if isinstance(results, list) else [results]

    def normalize(self, text: str) -> str:
        """An English text without case, punctuation, fillers and differences of spelling, to count errors with."""
        return self._english.normalize(text)  # type: ignore[no-any-return]

    @staticmethod
    def basic_normalize(text: str, remove_diacritics: bool = False) -> str:
        """A text of any language without case, punctuation and what stands in brackets, to count errors with."""
        from formers.tokenization.transcripts import basic

        return basic(text, remove_diacritics)

    @cached_property
    def _english(self) -> Any:
        from formers.tokenization.transcripts import English

        return English(self.english_spelling_normalizer or {})

    def _without_prompt(self, ids: list[int]) -> list[int]:
        prompt, start = self.convert_tokens_to_ids(["<|startofprev|>", "<|startoftranscript|>"])
        if not ids or ids[0] != prompt:
            return ids
        return ids[ids.index(start) :] if start in ids else []

    def _offsets(self, ids: Any, precision: float) -> list[dict[str, Any]]:
        return [
            {"text": _TIMESTAMP.sub("", super(WhisperTokenizer, self).decode(ids)), "timestamp": (start, end)}
            for ids, start, end in timestamps.segments(ids, self.timestamp_begin, precision)
        ]

    def kept_files(self) -> dict[str, bytes]:
        """The file of spellings."""
        if self.english_spelling_normalizer is None:
            return {}
        text = json.dumps(self.english_spelling_normalizer, ensure_ascii=False, indent=2, sort_keys=True)
        return {"normalizer_file": (text + "\n").encode()}


def _spellings(path: str | None) -> dict[str, str] | None:
    if path is None:
        return None
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "Fetch the file again.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold an object of spellings.", "Fetch the file again.")
    return found
