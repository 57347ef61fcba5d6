"""Text that goes on from a prompt or a chat: text-generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from formers.errors import InputError
from formers.generation.config import GenerationConfig, names, over
from formers.generation.generate import continuations
from formers.pipelines.base import Pipeline, Prepared
from formers.pipelines.encoding import Row, require_text, rows_of
from formers.pipelines.generating import GenerationOptions, apart, groups

# Settings where neither the call nor the model says anything, as in the reference.
DEFAULTS: dict[str, Any] = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
_TENSORS, _NEW_TEXT, _FULL_TEXT = range(3)


@dataclass(frozen=True)
class TextGenerationOptions(GenerationOptions):
    """What a call takes beside the settings of generation, which are the fields of GenerationConfig.

    `return_full_text=False` leaves the prompt out; `return_tensors` gives ids instead of text, the prompt's included;
    `return_type` is the older spelling of both (0 ids, 1 new text, 2 full text). `stop_sequence` is another name of
    stop_strings. `prefix` comes before every prompt. `handle_long_generation="hole"` cuts the start of a prompt that
    leaves the model no room. Of chats: `continue_final_message` goes on with the last message (by default if it is the
    assistant's); `tools` and `documents` go to the chat template, as `tokenizer_encode_kwargs` does.
    """

    return_full_text: bool | None = None
    skip_special_tokens: bool | None = None
    prefix: str = ""
    handle_long_generation: str | None = None
    continue_final_message: bool | None = None
    tools: Sequence[Any] | None = None
    documents: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        if self.return_full_text is not None and (self.return_tensors or self.return_text is not None):
            other = "return_tensors" if self.return_tensors else "return_text"
            raise InputError(f"Both return_full_text and {other} were given.", "Give one of them.")
        if self.return_tensors and self.return_text:
            raise InputError("Both return_tensors and return_text were given.", "Give one of them.")
        if self.return_type not in (None, _TENSORS, _NEW_TEXT, _FULL_TEXT):
            raise InputError(f"return_type={self.return_type!r} was given.", "Use return_full_text or return_tensors.")
        if self.handle_long_generation not in (None, "hole"):
            raise InputError(
                f"handle_long_generation={self.handle_long_generation!r} was given.", "Use 'hole', or leave it out."
            )

    @property
    def form(self) -> int:
        """What an answer holds: ids, new text or full text."""
        if self.return_type is not None:
            return self.return_type
        if self.return_tensors:
            return _TENSORS
        return _NEW_TEXT if self.return_full_text is False else _FULL_TEXT


class TextGenerationPipeline(Pipeline[TextGenerationOptions]):
    """Continue texts, or chats given as lists of {"role": …, "content": …}.

    A text gives a list of {"generated_text": …}, one for each of `num_return_sequences`; a list of texts gives a list
    of such lists. Of a chat "generated_text" is the chat with the answer. Prompts of unequal lengths go through the
    model together, each until it ends.
    """

    Options = TextGenerationOptions
    # Prompts that are tokenized and sorted together, at most.
    window = 256
    further = names()

    def __init__(self, model: Any, tokenizer: Any = None, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        special = {name: getattr(self.tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
        self.generation_defaults = GenerationConfig(**DEFAULTS, **special)

    def is_single(self, inputs: Any) -> bool:
        """A text, or a chat."""
        return super().is_single(inputs) or _is_chat(inputs)

    def options(self, given: Mapping[str, Any]) -> TextGenerationOptions:
        """The pipeline's options, changed by those given; settings of generation are put together in `settings`."""
        others, settings = apart(given)
        encode = dict(others.pop("tokenizer_encode_kwargs", None) or {})
        chosen = super().options(others)
        arguments = {**chosen.tokenizer_arguments, **encode}
        return replace(chosen, tokenizer_arguments=arguments, settings=over(chosen.settings, settings))

    def preprocess(self, inputs: Sequence[Any], options: TextGenerationOptions) -> list[Prepared]:
        """Tokenize texts and chats."""
        texts = [item for item in inputs if not _is_chat(item)]
        rows = iter(self._texts(texts, options))
        made = [self._chat(item, options) if _is_chat(item) else next(rows) for item in inputs]
        return [Prepared([self._fitted(row, options)], item) for row, item in zip(made, inputs, strict=True)]

    def forward(self, rows: Sequence[Row], options: TextGenerationOptions) -> Sequence[Any]:
        """For each row the new ids of its texts."""
        alone = options.assistant_model is not None or "prompt_lookup_num_tokens" in options.settings
        parts = [[row] for row in rows] if alone else [list(rows)]
        return [texts for part in parts for texts in self._generate(part, options)]

    def postprocess(self, prepared: Prepared, outputs: Sequence[Any], options: TextGenerationOptions) -> Any:
        """A dictionary for each text."""
        (row,) = prepared.rows
        if options.form == _TENSORS:
            return [{"generated_token_ids": row.ids + new} for new in outputs[0]]
        return [{"generated_text": self._answer_text(prepared.source, new, options)} for new in outputs[0]]

    def _generate(self, rows: Sequence[Row], options: TextGenerationOptions) -> list[list[list[int]]]:
        call = options.call([row.ids for row in rows], self.tokenizer, defaults=self.generation_defaults)
        return continuations(self.model, call, options.generation_config, options.settings)

    def _groups(self, rows: Sequence[Row], size: int | None) -> list[list[int]]:
        return groups(rows, size, self.device.type == "cpu")

    # Prompts.

    def _texts(self, texts: Sequence[Any], options: TextGenerationOptions) -> list[Row]:
        if not texts:
            return []
        call: dict[str, Any] = {"return_attention_mask": False, "verbose": False, **options.tokenizer_arguments}
        if options.truncation:
            limit = options.settings.get("max_length") or self.encoder.limit
            call = {"truncation": options.truncation, "max_length": limit, **call}
        batch = self.tokenizer([options.prefix + require_text(text) for text in texts], **call)
        return rows_of(batch)

    def _chat(self, chat: Sequence[Mapping[str, Any]], options: TextGenerationOptions) -> Row:
        goes_on = _goes_on(chat, options)
        batch = self.tokenizer.apply_chat_template(
            list(chat),
            tools=options.tools,
            documents=options.documents,
            add_generation_prompt=not goes_on,
            continue_final_message=goes_on,
            tokenize=True,
            return_dict=True,
            **{name: value for name, value in options.tokenizer_arguments.items() if name != "add_special_tokens"},
        )
        ids = batch["input_ids"]
        return Row(list(ids[0] if ids and isinstance(ids[0], list) else ids), None, None, batch, 0)

    def _fitted(self, row: Row, options: TextGenerationOptions) -> Row:
        """A row with at least one token, and with room for new ones if that was asked for."""
        if not row.ids:
            start = self.tokenizer.bos_token_id
            start = self.tokenizer.eos_token_id if start is None else start
            if start is None:
                raise InputError("A prompt has no tokens, and the tokenizer has none to begin with.", "Give a text.")
            row.ids = [start]
        limit = self.encoder.limit
        if options.handle_long_generation == "hole" and limit is not None:
            room = options.settings.get("max_new_tokens")
            if room is None:
                room = max(0, options.settings.get("max_length", len(row.ids) + DEFAULTS["max_new_tokens"]) - len(row))
            if limit - room < 1:
                raise InputError(
                    f"{room} new tokens were asked for; the model takes {limit} in all.", "Ask for fewer new tokens."
                )
            row.ids = row.ids[-(limit - room) :]
        return row

    def _answer_text(self, prompt: Any, new: list[int], options: TextGenerationOptions) -> Any:
        skip = True if options.skip_special_tokens is None else options.skip_special_tokens
        clean = options.clean_up_tokenization_spaces
        text = self.tokenizer.decode(new, skip_special_tokens=skip, clean_up_tokenization_spaces=clean)
        if options.form == _NEW_TEXT:
            return text
        if not _is_chat(prompt):
            return str(prompt) + str(text)
        if _goes_on(prompt, options):
            return [*prompt[:-1], {**prompt[-1], "content": prompt[-1]["content"] + text}]
        return [*prompt, {"role": "assistant", "content": text}]


def _is_chat(item: Any) -> bool:
    """Whether an input is a list of messages."""
    return (
        isinstance(item, (list, tuple))
        and bool(item)
        and all(isinstance(message, Mapping) and "role" in message for message in item)
    )


def _goes_on(chat: Sequence[Mapping[str, Any]], options: TextGenerationOptions) -> bool:
    """Whether the last message is to be continued."""
    asked = options.continue_final_message
    return chat[-1]["role"] == "assistant" if asked is None else asked
