"""The tokenizer: text to model inputs and back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypedDict

from formers.errors import InputError, UnsupportedError
from formers.tokenization import compose
from formers.tokenization.base import PreTrainedTokenizerBase
from formers.tokenization.batch import BatchEncoding
from formers.tokenization.encode import Fill, Request, encode
from formers.tokenization.engine import Engines
from formers.tokenization.padding import pad_encoded
from formers.tokenization.settings import Limits, resolve
from formers.tokenization.tensors import check_tensor_type

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from formers.tokenization.special import Token

# The tokenizers that `as_target_tokenizer` is in effect for.
_TARGETING: ContextVar[frozenset[int]] = ContextVar("targeting", default=frozenset())


class CallSettings(TypedDict, total=False):
    """The keyword arguments of `PreTrainedTokenizerFast.__call__` that other methods share with it."""

    padding: bool | str
    truncation: bool | str | None
    max_length: int | None
    stride: int
    is_split_into_words: bool
    pad_to_multiple_of: int | None
    padding_side: str | None
    return_tensors: str | None
    return_token_type_ids: bool | None
    return_attention_mask: bool | None
    return_overflowing_tokens: bool
    return_special_tokens_mask: bool
    return_offsets_mapping: bool
    return_length: bool
    verbose: bool
    split_special_tokens: bool | None
    pad_to_max_length: bool


class PreTrainedTokenizerFast(PreTrainedTokenizerBase):
    """A tokenizer on the `tokenizers` engine, from a `tokenizer.json`; families add how to do without that file.

    Settings belong to the call: any number of threads may use one tokenizer, each with its own.
    """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *inputs: Any,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        gguf_file: str | None = None,
        **settings: Any,
    ) -> Self:
        """Load the tokenizer of a model: a folder, a file, an installed package or a name on the hub.

        gguf_file: the GGUF file of the model to read. settings: those of the class, over what the model's files say.
        """
        from formers.hub import Source
        from formers.tokenization.load import load

        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download, gguf_file)
        return load(cls, pretrained_model_name_or_path, source, inputs, settings)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
    ) -> tuple[str, ...]:
        """Write `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and the vocabulary files.

        legacy_format: True writes no `tokenizer.json`, False no vocabulary files. Returns the paths.
        """
        from formers.tokenization.save import save

        paths = save(self, save_directory, legacy_format, filename_prefix)
        if push_to_hub:
            from formers.hub.upload import upload_folder

            upload_folder(save_directory, repo_id or os.path.basename(save_directory), private=private, token=token)
        return paths

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write the family's vocabulary files into an existing folder. Returns the paths."""
        from formers.tokenization.save import save_vocabulary

        return save_vocabulary(self, save_directory, filename_prefix)

    def push_to_hub(self, repo_id: str, private: bool | None = None, token: str | bool | None = None) -> str:
        """Save the tokenizer to the model repository `repo_id` on the hub. Returns the address of the commit."""
        from tempfile import TemporaryDirectory

        from formers.hub.upload import upload_folder

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_folder(folder, repo_id, private=private, token=token)

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[Any],
        vocab_size: int,
        length: int | None = None,
        new_special_tokens: Sequence[Token] | None = None,
        special_tokens_map: Mapping[str, str] | None = None,
        **trainer_settings: Any,
    ) -> Self:
        """A tokenizer of the same kind and settings with a vocabulary learned from texts or batches of texts.

        length: the number of texts, for the progress bar. special_tokens_map: new names of special tokens by old ones.
        trainer_settings: arguments of the engine's trainer, such as `min_frequency`.
        """
        from formers.tokenization.train import train

        return train(
            self,
            text_iterator,
            vocab_size,
            length,
            new_special_tokens or (),
            special_tokens_map or {},
            trainer_settings,
        )

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        split_special_tokens: bool | None = None,
        max_target_length: int | None = None,
        pad_to_max_length: bool = False,
    ) -> BatchEncoding:
        """Tokenize a text, or a batch (a list of texts); `text_pair` gives each a second one.

        text_target: texts whose ids become "labels" (`max_target_length` limits these). is_split_into_words: a text is
        a list of words. padding: True or "longest", "max_length", False. truncation: True or "longest_first",
        "only_first", "only_second", False; None cuts if `max_length` is given without padding. stride: tokens that the
        windows of return_overflowing_tokens=True share. return_tensors: "pt", "np", None for lists.
        """
        if text is None and text_target is None:
            raise InputError("There is neither `text` nor `text_target`.", "Pass at least one of them.")
        names = self.model_input_names
        request = Request(
            self._limits(
                "max_length" if pad_to_max_length and padding is False else padding,
                truncation,
                max_length,
                stride,
                pad_to_multiple_of,
                padding_side,
                verbose,
            ),
            add_special_tokens,
            is_split_into_words,
            self.split_special_tokens if split_special_tokens is None else split_special_tokens,
            None if return_tensors is None else check_tensor_type(return_tensors),
            "token_type_ids" in names if return_token_type_ids is None else return_token_type_ids,
            "attention_mask" in names if return_attention_mask is None else return_attention_mask,
            return_special_tokens_mask,
            return_offsets_mapping,
            return_overflowing_tokens,
            return_length,
        )
        if text is None:
            return self._target(text_target, text_pair_target, request, max_target_length)
        engines = self._target_engines() if id(self) in _TARGETING.get() else self._engines
        batch = self._encode(engines, text, text_pair, request, verbose)
        if text_target is not None:
            target = self._target(text_target, text_pair_target, request, max_target_length)
            batch["labels"] = target["input_ids"]
        return batch

    def _target_engines(self) -> Engines:
        """The engines of texts that the model writes; some families treat these in another way than texts it reads."""
        return self._engines

    def _encode(self, engines: Engines, text: Any, text_pair: Any, request: Request, verbose: bool) -> BatchEncoding:
        batch, longest = encode(engines, text, text_pair, request, self._fill(request.limits))
        if request.limits.max_length is None and longest > self.model_max_length and verbose:
            self._warn_once(
                "sequence-length-is-longer-than-the-specified-maximum",
                f"A text has {longest} tokens, and the model takes {self.model_max_length}: use truncation=True.",
            )
        return batch

    def _target(self, text: Any, pair: Any, request: Request, max_length: int | None) -> BatchEncoding:
        if max_length is not None:
            padding, truncation, _ = request.limits
            if padding is not None and padding.length is not None:
                padding = padding._replace(length=max_length)
            if truncation is not None:
                truncation = truncation._replace(max_length=max_length)
            request = request._replace(limits=Limits(padding, truncation, max_length))
        return self._encode(self._target_engines(), text, pair, request, True)

    def encode(
        self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **settings: Unpack[CallSettings]
    ) -> Any:
        """The ids of a text or pair: `self(…)["input_ids"]`."""
        return self(text, text_pair, add_special_tokens=add_special_tokens, **settings)["input_ids"]

    def encode_plus(
        self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **settings: Unpack[CallSettings]
    ) -> BatchEncoding:
        """The older name of a call with one text or pair."""
        if not isinstance(text, str) and not settings.get("is_split_into_words"):
            raise InputError(
                f"encode_plus takes one text, and got a {type(text).__name__}.",
                "Call the tokenizer itself for a batch; use is_split_into_words=True for words and "
                "`prepare_for_model` for token ids.",
            )
        return self(text, text_pair, add_special_tokens=add_special_tokens, **settings)

    def batch_encode_plus(
        self, batch_text_or_text_pairs: Any, add_special_tokens: bool = True, **settings: Unpack[CallSettings]
    ) -> BatchEncoding:
        """The older name of a call with a list of texts, or of tuples of two texts."""
        if isinstance(batch_text_or_text_pairs, str) or not hasattr(batch_text_or_text_pairs, "__len__"):
            raise InputError(
                f"batch_encode_plus takes a list of texts, and got a {type(batch_text_or_text_pairs).__name__}.",
                "Call the tokenizer itself for one text.",
            )
        return self(batch_text_or_text_pairs, add_special_tokens=add_special_tokens, **settings)

    def get_chat_template(self, chat_template: str | None = None, tools: Sequence[Any] | None = None) -> str:
        """The template that `apply_chat_template` would use with these arguments."""
        from formers.tokenization.chat import choose_template

        return choose_template(self.chat_template, chat_template, tools)

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Any] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        tokenize: bool = True,
        sanitize_control_tokens: bool = False,
        padding: bool | str = False,
        truncation: bool | str | None = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = True,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> Any:
        """A conversation (messages with "role" and "content"), or a list of them, as the model's chat template has it.

        tools: functions with docstrings, or JSON schemas. documents: texts to answer from. chat_template: a template,
        or the name of one of the tokenizer's. add_generation_prompt: end where the assistant's answer begins.
        continue_final_message: end inside the last message (True, or the key to go on with). tokenize: False gives the
        text. return_dict: False gives the ids alone. return_assistant_tokens_mask: adds "assistant_masks", 1 for what
        the template marks with `{% generation %}`. variables: more for the template.

        The template writes all special tokens itself; none are added.
        """
        from formers.tokenization import chat

        if sanitize_control_tokens:
            raise UnsupportedError(
                "sanitize_control_tokens is not supported.",
                "Remove special tokens from what users write, or tokenize it with split_special_tokens=True.",
            )
        chat.check_options(
            tokenize and return_dict, return_assistant_tokens_mask, add_generation_prompt, continue_final_message
        )
        conversations, several = chat.split_batch(conversation)
        rendered = chat.render_all(
            self.get_chat_template(chat_template, tools),
            conversations,
            self.special_tokens_map,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            track=return_assistant_tokens_mask,
            variables=variables,
        )
        texts: Any = [item.text for item in rendered] if several else rendered[0].text
        if not tokenize:
            return texts
        settings: dict[str, Any] = {
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "return_tensors": return_tensors,
            "add_special_tokens": False,
            **(tokenizer_kwargs or {}),
        }
        if return_assistant_tokens_mask:
            return chat.encode_with_masks(self, rendered, several, settings)
        batch = self(texts, **settings)
        return batch if return_dict else batch["input_ids"]

    def encode_message_with_chat_template(
        self, message: Any, conversation_history: Sequence[Any] | None = None, **settings: Any
    ) -> list[int]:
        """The ids that a message adds after `conversation_history`; settings are those of `apply_chat_template`."""
        from formers.tokenization.chat import encode_message

        if "add_generation_prompt" in settings:
            raise InputError("A single message has no generation prompt.", "Leave out add_generation_prompt.")
        settings = {**settings, "return_dict": False}
        return encode_message(lambda chat: self.apply_chat_template(chat, **settings), message, conversation_history)

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **settings: Unpack[CallSettings]
    ) -> list[str]:
        """The tokens of a text as strings."""
        if self._engines.cutter is not None:
            whole = settings.get("split_special_tokens")
            whole = self.split_special_tokens if whole is None else whole
            engines = self._target_engines() if id(self) in _TARGETING.get() else self._engines
            texts = [text] if pair is None else [text, pair]
            return [token for row in engines.cut(texts, False, whole, False) for token in row]
        settings["return_offsets_mapping"] = True  # makes the encodings, which hold the tokens, at once
        return self(text, pair, add_special_tokens=add_special_tokens, **settings).tokens()

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[None]:
        """The older way to tokenize targets, now `text_target`: in this thread, texts are taken as targets inside."""
        before = _TARGETING.set(_TARGETING.get() | {id(self)})
        try:
            yield
        finally:
            _TARGETING.reset(before)

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pad tokenized rows: the result of a call, a dictionary, or a list of such; lists, arrays or tensors.

        Names other than those of the model's inputs and masks stay as they are.
        """
        main = self.model_input_names[0]
        limits = self._limits(padding, False, max_length, 0, pad_to_multiple_of, padding_side, verbose)
        if return_attention_mask is None:
            return_attention_mask = "attention_mask" in self.model_input_names
        fills = {"token_type_ids": self.pad_token_type_id, "special_tokens_mask": 1}
        fill = self._fill(limits)
        if fill is not None:
            fills[main] = fill.id
        if return_attention_mask:
            fills["attention_mask"] = 0
        kind = check_tensor_type(return_tensors)
        return pad_encoded(encoded_inputs, main, fills, limits.padding, return_attention_mask, kind)

    def _limits(
        self,
        padding: bool | str,
        truncation: bool | str | None,
        max_length: int | None,
        stride: int,
        multiple: int | None,
        side: str | None,
        verbose: bool,
    ) -> Limits:
        return resolve(
            padding,
            truncation,
            max_length,
            stride=stride,
            pad_to_multiple_of=multiple,
            padding_side=self.padding_side if side is None else side,
            truncation_side=self.truncation_side,
            model_max_length=self.model_max_length,
            has_pad_token=self.special.named["pad_token"] is not None,
            verbose=verbose,
        )

    def _fill(self, limits: Limits) -> Fill | None:
        if limits.padding is None:
            return None
        index = self.pad_token_id
        if index is None:
            raise InputError(
                f"The padding token {self.pad_token!r} is not in the vocabulary.",
                "Add it: `tokenizer.add_special_tokens({'pad_token': …})`.",
            )
        return Fill(self.pad_token, index, self.pad_token_type_id)

    def prepare_for_model(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        prepend_batch_axis: bool = False,
    ) -> BatchEncoding:
        """Model inputs from the token ids of a text or pair: as a call makes them, without offsets and word ids.

        return_overflowing_tokens adds "overflowing_tokens" (the ids cut off) and "num_truncated_tokens".
        """
        limits = self._limits(padding, truncation, max_length, stride, pad_to_multiple_of, padding_side, verbose)
        strategy = limits.truncation.strategy if limits.truncation else "do_not_truncate"
        if return_overflowing_tokens and strategy == "longest_first" and pair_ids is not None:
            raise InputError(
                "Truncation 'longest_first' of a pair gives no overflowing tokens.",
                "Use 'only_first' or 'only_second'.",
            )
        special = self.num_special_tokens_to_add(pair_ids is not None) if add_special_tokens else 0
        total = len(ids) + len(pair_ids or ()) + special
        surplus = total - limits.max_length if limits.max_length is not None else 0
        ids, pair_ids, cut = self.truncate_sequences(ids, pair_ids, surplus, strategy, stride)
        row = compose.compose(self._engines.base, ids, pair_ids, add_special_tokens)
        data: dict[str, Any] = {}
        if return_overflowing_tokens:
            data |= {"overflowing_tokens": cut, "num_truncated_tokens": surplus}
        data["input_ids"] = row.ids
        if "token_type_ids" in self.model_input_names if return_token_type_ids is None else return_token_type_ids:
            data["token_type_ids"] = row.type_ids
        if return_special_tokens_mask:
            data["special_tokens_mask"] = row.special_tokens_mask
        data = dict(
            self.pad(
                data,
                padding=padding if limits.padding else False,
                max_length=limits.max_length,
                pad_to_multiple_of=pad_to_multiple_of,
                padding_side=padding_side,
                return_attention_mask=return_attention_mask,
                verbose=False,
            )
        )
        if return_length:
            data["length"] = len(data["input_ids"])
        return BatchEncoding(data, tensor_type=return_tensors, prepend_batch_axis=prepend_batch_axis)
