"""What every tokenizer knows: engine, vocabulary, special tokens, what goes around ids, and the way back to text."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tokenizers import AddedToken, Tokenizer

from formers.errors import InputError
from formers.tokenization import compose, decode, setup
from formers.tokenization.settings import NO_LIMIT
from formers.tokenization.special import NAMES, IdAttribute, SpecialTokens, Token, TokenAttribute

if TYPE_CHECKING:
    from formers.tokenization.build import Recipe
    from formers.tokenization.engine import Engines

logger = logging.getLogger(__name__)


class PreTrainedTokenizerBase:
    """An engine with named special tokens. `PreTrainedTokenizerFast` adds calls, loading and saving."""

    vocab_files_names: ClassVar[dict[str, str]] = {"tokenizer_file": "tokenizer.json"}
    optional_files: ClassVar[tuple[str, ...]] = ()
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
        # Scripts silence the reference's warnings by topic here, so the topics are the same.
        self.deprecation_warnings: dict[str, bool] = {}
        given = {name: settings[name] for name in ("add_bos_token", "add_eos_token") if settings.get(name) is not None}
        known = setup.frame_found(self) if parts.from_file else parts.options
        wanted = {**known, **given} if "add_bos_token" in self.options else given
        self._frame_with = {name: bool(wanted.get(f"add_{name}_token")) for name in ("bos", "eos")}
        if given and setup.has_bos_eos_frame(type(self)):
            self._update_frame()

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """The text of a row of ids; a list of texts for a batch of rows (lists, arrays or tensors)."""
        clean_up = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        cutter = self._output_engines().cutter
        if cutter is not None:
            return decode.decode(decode.Joined(self, cutter), token_ids, skip_special_tokens, clean_up)
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
        cutter = self._output_engines().cutter
        if cutter is not None:
            return cutter.join(tokens, set(self.all_special_tokens))
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
        find = self._output_engines().base.id_to_token
        if isinstance(ids, int):
            return find(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [find(index) for index in map(int, ids) if index not in skipped]

    @property
    def continuing_subword_prefix(self) -> str | None:
        """What begins a token that continues a word ("##" with WordPiece), None if nothing marks it."""
        return getattr(self._engines.base.model, "continuing_subword_prefix", None) or None

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The engine itself. Changes to it count in later calls; make them before other threads use the tokenizer.

        Once asked for, it may change at any time, so that every call makes an engine of its own from it: that takes
        microseconds, but milliseconds with thousands of added tokens.
        """
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

    def kept_files(self) -> dict[str, bytes]:
        """What the family's files hold that the engine cannot write, by their names in `vocab_files_names`."""
        cutter = self._engines.cutter
        return {} if cutter is None else cutter.files

    def _output_engines(self) -> Engines:
        """The engines whose vocabulary has the ids that a model writes."""
        return self._engines

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
    def special_tokens_map_extended(self) -> dict[str, Token]:
        """`special_tokens_map` with the tokens as they were given: strings or AddedToken."""
        return {name: token for name, token in self.special.named.items() if token is not None}

    @property
    def all_special_tokens_extended(self) -> list[Token]:
        """`all_special_tokens` as they were given: strings or AddedToken."""
        return self.special.all()

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
        frame = setup.frame(self, **self._frame_with)

        def set_frame(engine: Tokenizer) -> None:
            engine.post_processor = frame

        self._engines.change(set_frame)

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

    def __getstate__(self) -> dict[str, Any]:
        # Without what calls leave behind: the caches of data sets go by the bytes of a pickled tokenizer.
        return {**self.__dict__, "deprecation_warnings": {}}

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

    def _warn_once(self, topic: str, message: str) -> None:
        if not self.deprecation_warnings.get(topic):
            self.deprecation_warnings[topic] = True
            logger.warning(message)
