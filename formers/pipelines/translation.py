"""From one language to another: translation, and translation_xx_to_yy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from formers.errors import InputError
from formers.generation.config import GenerationConfig
from formers.pipelines.encoding import Row
from formers.pipelines.text2text_generation import Text2TextGenerationPipeline, Text2TextOptions
from formers.registry import language_pair
from formers.tokenization.languages import unknown_language

# A text this close to the longest translation may not fit once it is translated.
_NEARLY = 0.9


@dataclass(frozen=True)
class TranslationOptions(Text2TextOptions):
    """Those of text2text-generation, and the languages: `src_lang` of the texts, `tgt_lang` of the translations."""

    src_lang: str | None = None
    tgt_lang: str | None = None


class TranslationPipeline(Text2TextGenerationPipeline):
    """Translate texts: the answers are {"translation_text": …}, else all is as in text2text-generation.

    Models of many languages (mBART, M2M100, NLLB) need `src_lang` and `tgt_lang`, in the tokenizer's codes; a task such
    as translation_en_to_fr names them too. A model whose configuration knows pairs by such names (T5) translates the
    pair that the languages or the task name, by default the first. Other models have one pair.
    """

    Options = TranslationOptions
    answer = "translation"

    def task_named(self, options: TranslationOptions) -> str:
        """The task of the languages in the model's configuration; its first one where none was asked for."""
        known = [task for task in self.parameters() if task.startswith("translation")]
        pair = self.languages(options)
        if pair is not None:
            return f"translation_{pair[0]}_to_{pair[1]}"
        if known:
            self.tell(f"The model is made for {', '.join(known)}, and none was asked for: {known[0]} is done.")
        return known[0] if known else self.task

    def languages(self, options: TranslationOptions) -> tuple[str | None, str | None] | None:
        """The languages of a call: those of its options, or else of the pipeline's task; None if neither has any."""
        if options.src_lang is not None or options.tgt_lang is not None:
            return options.src_lang, options.tgt_lang
        return language_pair(self.task)

    def advise(self, lengths: Sequence[int], settings: GenerationConfig) -> None:
        """Warn of translations that may be cut, and of languages that say nothing to the model."""
        super().advise(lengths, settings)
        most = settings.max_length
        if most is not None and max(lengths) > _NEARLY * most:
            self.tell(
                f"max_length={most} may cut the translation of a text of {max(lengths)} tokens. Pass a larger one."
            )

    @property
    def speaks(self) -> bool:
        """Whether the languages are the tokenizer's business: it has a code for each."""
        return hasattr(self.tokenizer, "speaking")

    def prefix(self, options: TranslationOptions) -> str:
        """What comes before every text; nothing where the tokenizer marks the languages."""
        return "" if self.speaks else super().prefix(options)

    def rows(self, texts: Sequence[str], options: TranslationOptions) -> list[Row]:
        """Texts as ids, in their language."""
        if not self.speaks:
            given = options.src_lang, options.tgt_lang
            own = tuple(getattr(self.tokenizer, name, None) for name in ("source_lang", "target_lang"))
            if given not in ((None, None), own) and self.task_named(options) not in self.parameters():
                known = "" if None in own else f" ({own[0]} to {own[1]})"
                self.tell(f"src_lang and tgt_lang were given, and this model's one pair of languages{known} stays.")
            return super().rows(texts, options)
        source, _ = self._codes(options)
        encoder = copy(self.encoder)
        encoder.tokenizer = self.tokenizer.speaking(source)
        return encoder.rows(texts, options, declared=bool(options.truncation))

    def settings(self, options: TranslationOptions) -> Mapping[str, Any]:
        """The settings of the call; translations begin with the code of their language."""
        if not self.speaks:
            return super().settings(options)
        _, target = self._codes(options)
        return {"forced_bos_token_id": self.tokenizer.lang_code_to_id[target], **options.settings}

    def _codes(self, options: TranslationOptions) -> tuple[str, str]:
        """The languages of a call, both of which the tokenizer has."""
        source, target = self.languages(options) or (None, None)
        known = self.tokenizer.lang_code_to_id
        if source is None or target is None:
            missing = "src_lang and tgt_lang" if source is target else "src_lang" if source is None else "tgt_lang"
            some = ", ".join(map(repr, sorted(known)[:8]))
            raise InputError(
                f"{missing} is missing, and this model translates between {len(known)} languages.",
                f"Pass src_lang and tgt_lang, in its codes: {some}, …",
            )
        for code in (source, target):
            if code not in known:
                raise unknown_language(code, known)
        return source, target
