"""The tokenizer of Marian: one SentencePiece model for the source and one for the target, and a common vocabulary."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tokenizers import Tokenizer

from formers.errors import InputError
from formers.tokenization import decode
from formers.tokenization.build import Recipe, Vocabulary, end_all, read_vocabulary
from formers.tokenization.engine import Engines
from formers.tokenization.pieces import look_up
from formers.tokenization.sentencepiece_text import SentencePieceCutter, refuse_sampling
from formers.tokenization.setup import named_ids
from formers.tokenization.special import Token
from formers.tokenization.tokenizer import PreTrainedTokenizerFast


@dataclass(frozen=True)
class _Cutter:
    """Cuts texts of the source, or of the target; `target_vocab` is that of the target if it has one of its own."""

    source: SentencePieceCutter
    target: SentencePieceCutter
    target_vocab: dict[str, int] | None
    reads_source: bool = True
    joins_source: bool = True
    end: None = None

    @property
    def files(self) -> dict[str, bytes]:
        files = {"source_spm": self.source.data, "target_spm": self.target.data}
        if self.target_vocab is not None:
            files["target_vocab_file"] = (json.dumps(self.target_vocab, ensure_ascii=False, indent=2) + "\n").encode()
        return files

    def cut(self, texts: Sequence[str]) -> list[list[str]]:
        parts = [_code_first(text) for text in texts]
        rows = (self.source if self.reads_source else self.target).cut([text for _, text in parts])
        return [[*code, *row] for (code, _), row in zip(parts, rows, strict=True)]

    def join(self, tokens: Iterable[str], special: Collection[str]) -> str:
        model = self.source if self.joins_source else self.target
        return model.join(tokens, special, after=" ").replace("▁", " ").strip()


def _code_first(text: str) -> tuple[list[str], str]:
    """The code of the language that a text may begin with, such as ">>fra<<", and the rest."""
    end = text.find("<<") if text.startswith(">>") else -1
    return ([], text) if end < 0 else ([text[: end + 2]], text[end + 2 :])


def _cutter(source: Mapping[str, Any], special: Mapping[str, str], options: Mapping[str, Any]) -> _Cutter:
    refuse_sampling(options)
    first, second = (SentencePieceCutter.read(source[name], name) for name in ("source_spm", "target_spm"))
    if not options["separate_vocabs"]:
        return _Cutter(first, second, None)
    path = source["target_vocab_file"]
    if path is None:
        raise InputError(
            "separate_vocabs=True needs the vocabulary of the target.",
            "Pass `target_vocab_file`, or load a folder that has target_vocab.json.",
        )
    return _Cutter(first, second, read_vocabulary(path, None).ids(), joins_source=False)


class MarianTokenizer(PreTrainedTokenizerFast):
    """SentencePiece with a model for each side, whose pieces have the ids of vocab.json.

    `text_target` is cut by the model of the target. A text may begin with the language to translate into, as in
    ">>fra<< Hello": `supported_language_codes` lists what the vocabulary has.

    Files: `source_spm`, `target_spm`, `vocab`, and `target_vocab_file` where the sides have vocabularies of their own.
    Options: `separate_vocabs` (they do), `source_lang`, `target_lang` (names, for information).
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        "source_spm": "source.spm",
        "target_spm": "target.spm",
        "vocab": "vocab.json",
        "target_vocab_file": "target_vocab.json",
    }
    optional_files: ClassVar[tuple[str, ...]] = ("target_vocab_file",)
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "unk_token": "<unk>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    options: ClassVar[Mapping[str, Any]] = {
        "source_lang": None,
        "target_lang": None,
        "separate_vocabs": False,
        "sp_model_kwargs": None,
    }
    recipe: ClassVar[Recipe | None] = Recipe(look_up, end_all, cutter=_cutter)

    def _set_up(self, settings: dict[str, Any]) -> None:
        super()._set_up({"model_max_length": 512, **settings})

    @property
    def supported_language_codes(self) -> list[str]:
        """The codes of languages that a text may begin with."""
        return [token for token in self.get_src_vocab() if token.startswith(">>") and token.endswith("<<")]

    def get_src_vocab(self) -> dict[str, int]:
        """The ids of the tokens that texts of the source may have."""
        return self.get_vocab()

    def get_tgt_vocab(self) -> dict[str, int]:
        """The ids of the tokens that texts of the target may have."""
        return self._output_engines().base.get_vocab(with_added_tokens=True)

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        use_source_tokenizer: bool | None = None,
    ) -> Any:
        """The text of a row of ids; a list of texts for a batch of rows (lists, arrays or tensors).

        use_source_tokenizer: which side's model joins the pieces, None for that of the common vocabulary or the target.
        """
        clean_up = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        cutter = self._cutter
        if use_source_tokenizer is not None:
            cutter = replace(cutter, joins_source=use_source_tokenizer)
        return decode.decode(decode.Joined(self, cutter), token_ids, skip_special_tokens, clean_up)

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        use_source_tokenizer: bool | None = None,
    ) -> list[str]:
        """The texts of rows of ids: see `decode`."""
        texts = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces, use_source_tokenizer)
        return [texts] if isinstance(texts, str) else texts

    @property
    def _cutter(self) -> _Cutter:
        cutter = self._engines.cutter
        assert isinstance(cutter, _Cutter)
        return cutter

    def _target_engines(self) -> Engines:
        cutter = self._cutter

        def make(engine: Tokenizer) -> Engines:
            if cutter.target_vocab is not None:
                added = engine.get_added_tokens_decoder()

                engine = look_up(Vocabulary(cutter.target_vocab), self.special_tokens_map, self.options)
                engine.add_tokens([added[index] for index in sorted(added)])
                engine.post_processor = end_all(named_ids(engine, self.special), self.options)
            return Engines(engine, replace(cutter, reads_source=False))

        return self._engines.other("target", make)

    def _output_engines(self) -> Engines:
        return self._engines if self._cutter.target_vocab is None else self._target_engines()
