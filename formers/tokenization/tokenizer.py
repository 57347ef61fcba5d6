"""The tokenizer: text to model inputs and back."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from tokenizers import AddedToken, Tokenizer

from formers.errors import InputError
from formers.tokenization import compose, decode, setup
from formers.tokenization.batch import BatchEncoding
from formers.tokenization.encode import Fill, Request, encode
from formers.tokenization.padding import pad_encoded
from formers.tokenization.settings import NO_LIMIT, Limits, resolve
from formers.tokenization.special import NAMES, IdAttribute, SpecialTokens, Token, TokenAttribute
from formers.tokenization.tensors import check_tensor_type

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from formers.tokenization.build import Recipe

logger = logging.getLogger(__name__)


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


class PreTrainedTokenizerFast:
    """A tokenizer on the `tokenizers` engine, from a `tokenizer.json`; families add how to do without that file.

    Settings belong to the call: any number of threads may use one tokenizer, each with its own.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"tokenizer_file": "tokenizer.json"}
    special_defaults: ClassVar[Mapping[str, Token]] = {}
    options: ClassVar[Mapping[str, Any]] = {}
    recipe: ClassVar[Recipe | None] = None

    SPECIAL_TOKENS_ATTRIBUTES: ClassVar[list[str]] = list(NAMES)
    is_fast: ClassVar[bool] = True
    pad_token_type_id: ClassVar[int] = 0

    model_input_names: list[str] = ["input_ids", "attention_mask"]  # noqa: RUF012 - an instance may have its own
    padding_side: str = "right"
    truncation_side: str = "right"

    bos_token, bos_token_id = TokenAttribute("bos_token"), IdAttribute("bos_token")
    eos_token, eos_token_id = TokenAttribute("eos_token"), IdAttribute("eos_token")
    unk_token, unk_token_id = TokenAttribute("unk_token"), IdAttribute("unk_token")
    sep_token, sep_token_id = TokenAttribute("sep_token"), IdAttribute("sep_token")
    pad_token, pad_token_id = TokenAttribute("pad_token"), IdAttribute("pad_token")
    cls_token, cls_token_id = TokenAttribute("cls_token"), IdAttribute("cls_token")
    mask_token, mask_token_id = TokenAttribute("mask_token"), IdAttribute("mask_token")

    # ------------------------------------------------------------------------------------------ making and keeping

    def __init__(self, vocab: Any = None, merges: Any = None, **settings: Any) -> None:
        """Make a tokenizer from files or objects.

        vocab, vocab_file: the vocabulary, in memory or as a path; merges, merges_file: the merges of BPE families.
        tokenizer_file, tokenizer_object: instead of these a `tokenizer.json` or a `tokenizers.Tokenizer`.
        Other settings: special tokens by name (`pad_token`, …, `extra_special_tokens`), `model_max_length`,
        `padding_side`, `truncation_side`, `model_input_names`, `clean_up_tokenization_spaces`,
        `split_special_tokens`, `chat_template`, and what the family adds (its `options`).
        """
        setup.warn_unknown(type(self), settings)
        self._set_up({"vocab": vocab, "merges": merges, **settings})

    def _set_up(self, settings: dict[str, Any]) -> None:
        parts = setup.assemble(type(self), settings)
        self._engines = parts.engines
        self._baked = parts.baked
        self.special: SpecialTokens = parts.special
        self.vocab_file = parts.vocab_file
        self.init_kwargs = {**settings, **parts.options}
        self.name_or_path: str = settings.get("name_or_path") or ""
        self.verbose: bool = settings.get("verbose", False)
        self.model_max_length: int = setup.limit(settings)
        self.padding_side, self.truncation_side = setup.sides(type(self), settings)
        self.model_input_names = list(settings.get("model_input_names") or type(self).model_input_names)
        self.clean_up_tokenization_spaces: bool = bool(settings.get("clean_up_tokenization_spaces", False))
        self.split_special_tokens: bool = bool(settings.get("split_special_tokens", False))
        self.chat_template: Any = setup.chat_template(settings)
        self._warned: set[str] = set()
        self._frame_with = {"bos": bool(settings.get("add_bos_token")), "eos": bool(settings.get("add_eos_token"))}
        if self.recipe is None and ("add_bos_token" in settings or "add_eos_token" in settings):
            self._update_frame()

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
        **settings: Any,
    ) -> Self:
        """Load the tokenizer of a model: a folder, a file, an installed package or a name on the hub.

        settings: those of the class, over what the model's files say.
        """
        from formers.hub import Source
        from formers.tokenization.load import load

        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download)
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

    # --------------------------------------------------------------------------------------------- text to inputs

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
        batch = self._encode(text, text_pair, request, verbose)
        if text_target is not None:
            target = self._target(text_target, text_pair_target, request, max_target_length)
            batch["labels"] = target["input_ids"]
        return batch

    def _encode(self, text: Any, text_pair: Any, request: Request, verbose: bool) -> BatchEncoding:
        batch, longest = encode(self._engines, text, text_pair, request, self._fill(request.limits))
        if request.limits.max_length is None and longest > self.model_max_length and verbose:
            self._warn_once(
                "too long",
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
        return self._encode(text, pair, request, True)

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

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **settings: Unpack[CallSettings]
    ) -> list[str]:
        """The tokens of a text as strings."""
        settings.setdefault("verbose", False)
        return self(text, pair, add_special_tokens=add_special_tokens, **settings).tokens()

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
        if limits.padding is not None:
            fills[main] = self.pad_token_id
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
        return Fill(self.pad_token, self.pad_token_id, self.pad_token_type_id)

    def _warn_once(self, topic: str, message: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            logger.warning(message)

    # --------------------------------------------------------------------------------------------- ids to inputs

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

    def truncate_sequences(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """Remove tokens from a pair of sequences: both shortened, and the ids cut off."""
        strategy = getattr(truncation_strategy, "value", truncation_strategy)
        return compose.truncate(ids, pair_ids, num_tokens_to_remove, strategy, stride, self.truncation_side)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The ids of a text or pair with the special tokens around them."""
        return compose.compose(self._engines.base, token_ids_0, token_ids_1).ids

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The token types of `build_inputs_with_special_tokens` of the same ids."""
        return compose.compose(self._engines.base, token_ids_0, token_ids_1).type_ids

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 at special tokens, 0 elsewhere: in the given row, or in the one that these ids would become."""
        if not already_has_special_tokens:
            return compose.compose(self._engines.base, token_ids_0, token_ids_1).special_tokens_mask
        if token_ids_1 is not None:
            raise InputError("A row that has its special tokens already is one list of ids.", "Leave out token_ids_1.")
        special = set(self.all_special_ids)
        return [int(int(index) in special) for index in token_ids_0]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens a text or a pair gets."""
        return self._engines.base.num_special_tokens_to_add(pair)

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of a text the model takes, without the special ones."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=False)

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of two texts together the model takes, without the special ones."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    # ----------------------------------------------------------------------------------------------- ids to text

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """The text of a row of ids; a list of texts for a batch of rows (lists, arrays or tensors)."""
        clean_up = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        if clean_up and decode.keeps_spaces(self._engines.base) and not self.init_kwargs.get(setup.FORCE_CLEAN_UP):
            self._warn_once(
                "clean up", "Spaces are not cleaned up: this tokenizer's tokens hold the spaces of the text."
            )
            clean_up = False
        return decode.decode(self._engines.base, token_ids, skip_special_tokens, clean_up)

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """The texts of rows of ids (lists, arrays or tensors)."""
        texts = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces)
        return [texts] if isinstance(texts, str) else texts

    @staticmethod
    def clean_up_tokenization(out_string: str) -> str:
        """The text without the spaces before English punctuation and contractions."""
        return decode.clean(out_string)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of tokens."""
        decoder = self._engines.base.decoder
        return " ".join(tokens) if decoder is None else decoder.decode(tokens)

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or the ids of several; the id of the unknown token for what is not in the vocabulary."""
        if tokens is None:
            return None
        find = self._engines.base.token_to_id
        if isinstance(tokens, str):
            index = find(tokens)
            if index is not None:
                return index
            unknown = self.unk_token
            return None if unknown is None else find(unknown)
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or the tokens of several; None for ids outside the vocabulary."""
        find = self._engines.base.id_to_token
        if isinstance(ids, int):
            return find(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [find(index) for index in map(int, ids) if index not in skipped]

    # ------------------------------------------------------------------------------------- vocabulary and tokens

    @property
    def continuing_subword_prefix(self) -> str | None:
        """What begins a token that continues a word ("##" with WordPiece), None if nothing marks it."""
        return getattr(self._engines.base.model, "continuing_subword_prefix", None) or None

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The engine. Changes to it count in later calls; make them before other threads use the tokenizer."""
        return self._engines.hand_out()

    @property
    def _tokenizer(self) -> Tokenizer:
        return self.backend_tokenizer

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary without added tokens; `len(tokenizer)` counts them too."""
        return self._engines.base.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        return self._engines.base.get_vocab_size(with_added_tokens=True)

    def __bool__(self) -> bool:
        return True  # not by the size of the vocabulary, which is slow to count

    def get_vocab(self) -> dict[str, int]:
        """The ids of all tokens, added ones included."""
        return self._engines.base.get_vocab(with_added_tokens=True)

    @property
    def vocab(self) -> dict[str, int]:
        """`get_vocab()`."""
        return self.get_vocab()

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        return self._engines.base.get_added_tokens_decoder()

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The ids of the added tokens."""
        return {token.content: index for index, token in sorted(self.added_tokens_decoder.items())}

    def get_added_vocab(self) -> dict[str, int]:
        """The ids of the added tokens."""
        return self.added_tokens_encoder

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add a token or several (strings or AddedToken); returns how many were new. Calls under way go on without."""
        if not new_tokens:
            return 0
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else list(new_tokens)
        wrong = next((token for token in tokens if not isinstance(token, (str, AddedToken))), None)
        if wrong is not None:
            raise InputError(f"{wrong!r} is not a token.", "Pass strings or AddedToken objects.")
        if special_tokens:
            return self._engines.change(lambda engine: engine.add_special_tokens(tokens))
        return self._engines.change(lambda engine: engine.add_tokens(tokens))

    def add_special_tokens(
        self,
        special_tokens_dict: Mapping[str, Any],
        replace_extra_special_tokens: bool = True,
        replace_additional_special_tokens: bool = True,
    ) -> int:
        """Name special tokens, such as {"pad_token": "[PAD]"}, and add those that are new; returns how many were.

        The list under "extra_special_tokens" (or "additional_special_tokens") replaces the present one, unless a
        `replace_…` argument is False.
        """
        replace = replace_extra_special_tokens and replace_additional_special_tokens
        tokens = self.special.update(special_tokens_dict, replace)
        return self.add_tokens(tokens, special_tokens=True)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens that have a name."""
        return self.special.map()

    @property
    def all_special_tokens(self) -> list[str]:
        """All special tokens, each once."""
        return [str(token) for token in self.special.all()]

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return self.convert_tokens_to_ids(self.all_special_tokens)  # type: ignore[no-any-return]

    @property
    def extra_special_tokens(self) -> list[str]:
        """The special tokens without a name."""
        return [str(token) for token in self.special.extra]

    @extra_special_tokens.setter
    def extra_special_tokens(self, tokens: Any) -> None:
        self.special.set_extra(tokens or ())

    @property
    def extra_special_tokens_ids(self) -> list[int]:
        """The ids of `extra_special_tokens`."""
        return self.convert_tokens_to_ids(self.extra_special_tokens)  # type: ignore[no-any-return]

    additional_special_tokens = extra_special_tokens
    additional_special_tokens_ids = extra_special_tokens_ids

    @property
    def add_bos_token(self) -> bool:
        """Whether texts start with the bos token; setting this replaces the way special tokens are put around texts."""
        return self._frame_with["bos"]

    @add_bos_token.setter
    def add_bos_token(self, value: bool) -> None:
        self._frame_with["bos"] = value
        self._update_frame()

    @property
    def add_eos_token(self) -> bool:
        """Whether texts end with the eos token; setting this replaces the way special tokens are put around texts."""
        return self._frame_with["eos"]

    @add_eos_token.setter
    def add_eos_token(self, value: bool) -> None:
        self._frame_with["eos"] = value
        self._update_frame()

    def _update_frame(self) -> None:
        frame = setup.bos_eos_frame(self, **self._frame_with)

        def set_frame(engine: Tokenizer) -> None:
            engine.post_processor = frame

        self._engines.change(set_frame)

    def __getattr__(self, name: str) -> Any:
        # Only what is no attribute comes here: the family's options, and tokens that one model alone has.
        state = self.__dict__
        if name in type(self).options and "init_kwargs" in state:
            return state["init_kwargs"][name]
        if "special" in state:
            token = name.removesuffix("_id")
            if token in state["special"].named:
                text = state["special"].text(token)
                return text if token == name or text is None else self.convert_tokens_to_ids(text)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        limit = "unlimited" if self.model_max_length >= NO_LIMIT else self.model_max_length
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={limit}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map})"
        )
