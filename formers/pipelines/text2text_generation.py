"""A text from a text, by an encoder–decoder: text2text-generation and summarization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch.nn.utils.rnn import pad_sequence

from formers.errors import InputError
from formers.generation.config import GenerationConfig, over
from formers.generation.config import names as setting_names
from formers.generation.generate import continuations
from formers.generation.planning import model_config
from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.encoding import Row, require_text
from formers.pipelines.generating import GenerationOptions, apart, groups
from formers.pipelines.notice import warn

# Settings where neither the call nor the model says anything, as in version 4 of the reference.
DEFAULTS: dict[str, Any] = {"max_new_tokens": 256, "num_beams": 4}
_TENSORS, _TEXT = range(2)


@dataclass(frozen=True)
class Text2TextOptions(GenerationOptions):
    """What a call takes beside the settings of generation, which are the fields of GenerationConfig.

    `return_tensors` gives the tensor of ids, the decoder's first one included, in place of the text, or beside it with
    `return_text=True`; `return_type` is an older spelling (0 ids, 1 text). `stop_sequence` is another name of
    stop_strings. A model without a table of positions reads texts of any length; `truncation=True` cuts them to what
    the tokenizer is made for.
    """

    def __post_init__(self) -> None:
        if self.return_type not in (None, _TENSORS, _TEXT):
            raise InputError(f"return_type={self.return_type!r} was given.", "Use return_tensors or return_text.")
        if not self.gives_ids and not self.gives_text:
            raise InputError("return_text=False was given.", "Add return_tensors=True for the ids.")

    @property
    def gives_ids(self) -> bool:
        """Whether an answer holds ids."""
        return bool(self.return_tensors) if self.return_type is None else self.return_type == _TENSORS

    @property
    def gives_text(self) -> bool:
        """Whether an answer holds text."""
        return not self.gives_ids if self.return_text is None else bool(self.return_text)


class Text2TextGenerationPipeline(Pipeline[Any]):
    """Write texts for texts.

    A text gives a list of {"generated_text": …}, one for each of `num_return_sequences`; a list of texts gives a list
    of these dictionaries if there is one a text, else a list of lists. Settings come from the call, over what the
    model's configuration says of the task (`task_specific_params`), over the model's own, over 4 beams and 256 new
    tokens. A `prefix` in that configuration comes before every text.
    """

    Options = Text2TextOptions
    # Texts that are tokenized and sorted together, at most.
    window = 256
    further = setting_names()
    # An answer's keys begin with it.
    answer: ClassVar[str] = "generated"

    def __init__(self, model: Any, tokenizer: Any = None, *, task: str = "", **options: Any) -> None:
        self._told: set[str] = set()
        super().__init__(model, tokenizer, task=task, **options)

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **options: Any
    ) -> Any:
        """Answer one text, a list of texts or a stream of them; see the class, and `Pipeline.__call__`."""
        answers = super().__call__(inputs, batch_size=batch_size, num_workers=num_workers, **options)
        several = isinstance(answers, list) and not self.is_single(inputs)
        if several and all(len(answer) == 1 for answer in answers):
            return [answer[0] for answer in answers]
        return answers

    def options(self, given: Mapping[str, Any]) -> Any:
        """The pipeline's options, changed by those given; settings of generation are put together in `settings`."""
        others, settings = apart(given)
        if getattr(others.get("truncation"), "value", others.get("truncation")) == "do_not_truncate":
            others["truncation"] = False
        chosen = super().options(others)
        return replace(chosen, settings=over(chosen.settings, settings))

    def preprocess(self, inputs: Sequence[Any], options: Any) -> list[Prepared]:
        """Tokenize texts."""
        texts = [self.prefix(options) + require_text(text) for text in inputs]
        rows = self.rows(texts, options)
        self.advise([len(row.ids) for row in rows], self._settled(options))
        return [Prepared([row], text) for row, text in zip(rows, inputs, strict=True)]

    def forward(self, rows: Sequence[Row], options: Any) -> Sequence[Any]:
        """For each row the ids of its texts, the decoder's first one included."""
        alone = options.assistant_model is not None or "prompt_lookup_num_tokens" in options.settings
        parts = [[row] for row in rows] if alone else [list(rows)]
        own, settings, settled = self.configuration(options), self.settings(options), self._settled(options)
        start = settled.bos_token_id if settled.decoder_start_token_id is None else settled.decoder_start_token_id
        made: list[Any] = []
        for part in parts:
            call = options.call([row.ids for row in part], self.tokenizer, own=own)
            for texts in continuations(self.model, call, options.generation_config, settings):
                made.append([[start, *new] for new in texts])
        return made

    def postprocess(self, prepared: Prepared, outputs: Sequence[Any], options: Any) -> Any:
        """A dictionary for each text."""
        (made,) = outputs
        answers: list[dict[str, Any]] = [{} for _ in made]
        if options.gives_text:
            clean = bool(options.clean_up_tokenization_spaces)
            for answer, ids in zip(answers, made, strict=True):
                answer[f"{self.answer}_text"] = self.tokenizer.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=clean
                )
        if options.gives_ids:
            pad = self._settled(options).pad_token_id or 0
            table = pad_sequence([torch.tensor(ids) for ids in made], batch_first=True, padding_value=pad)
            for answer, row in zip(answers, table, strict=True):
                answer[f"{self.answer}_token_ids"] = row
        return answers

    # What tasks and models say.

    def task_named(self, options: Any) -> str:
        """The name under which the model's configuration keeps what it says of the task."""
        return self.task

    def prefix(self, options: Any) -> str:
        """What comes before every text."""
        said = self.parameters().get(self.task_named(options), {}).get("prefix")
        return str((getattr(self.bare_model.config, "prefix", None) if said is None else said) or "")

    def parameters(self) -> Mapping[str, Mapping[str, Any]]:
        """What the model's configuration says of tasks."""
        return getattr(self.bare_model.config, "task_specific_params", None) or {}

    def configuration(self, options: Any) -> GenerationConfig | None:
        """The settings under those of the call; None where a configuration was passed, which goes over the model's."""
        if options.generation_config is not None:
            return None
        said = self.parameters().get(self.task_named(options), {})
        known = {name: value for name, value in said.items() if name in setting_names()}
        values = over(over(DEFAULTS, model_config(self.bare_model).set_values()), known)
        return GenerationConfig(**{"pad_token_id": self.tokenizer.pad_token_id, **values})

    def settings(self, options: Any) -> Mapping[str, Any]:
        """The settings of the call."""
        chosen: Mapping[str, Any] = options.settings
        return chosen

    def rows(self, texts: Sequence[str], options: Any) -> list[Row]:
        """Texts as ids. Those that are longer than the tokenizer is made for are cut if the options say so."""
        return self.encoder.rows(texts, options, declared=bool(options.truncation))

    def advise(self, lengths: Sequence[int], settings: GenerationConfig) -> None:
        """Warn of lengths that people rarely mean."""
        declared = self.tokenizer.model_max_length
        if max(lengths) > declared and self.encoder.positions is None:
            self.tell(
                f"An input has {max(lengths)} tokens; the tokenizer is made for {declared}. All of them are read. Pass "
                "truncation=True to have such inputs cut."
            )

    def tell(self, message: str) -> None:
        """Warn, of each kind of thing once."""
        kind = "".join(sign for sign in message if not sign.isdigit())
        if kind not in self._told:
            self._told.add(kind)
            warn(message)

    def _settled(self, options: Any) -> GenerationConfig:
        own = self.configuration(options) or model_config(self.bare_model)
        return own.merged(options.generation_config, self.settings(options))

    def _groups(self, rows: Sequence[Row], size: int | None) -> list[list[int]]:
        return groups(rows, size, self.device.type == "cpu")


class SummarizationPipeline(Text2TextGenerationPipeline):
    """Summarize texts: the answers are {"summary_text": …}, else all is as in text2text-generation."""

    answer = "summary"

    def advise(self, lengths: Sequence[int], settings: GenerationConfig) -> None:
        """Warn of summaries that may be longer than their texts."""
        super().advise(lengths, settings)
        most, least = settings.max_length, settings.min_length or 0
        if most is None:
            return
        if least > most:
            self.tell(f"min_length={least} is above max_length={most}: every summary will have {most} tokens.")
        if min(lengths) < most:
            self.tell(
                f"max_length={most} lets a summary be longer than its text, which has {min(lengths)} tokens. Pass a "
                f"smaller one, such as max_length={max(1, min(lengths) // 2)}."
            )
