"""From texts to rows of token ids, and from rows to the tensors of one forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from formers.errors import InputError
from formers.pipelines.notice import warn

if TYPE_CHECKING:
    from formers.models.base import PreTrainedModel
    from formers.tokenization import BatchEncoding, PreTrainedTokenizerFast

# A text, a pair of texts, or a text that is already split into words.
Text = str | tuple[str, str] | list[str]

# Arguments of a tokenizer's call that make sense for a pipeline and go to the tokenizer as they are.
TOKENIZER_ARGUMENTS = frozenset(
    {
        "add_special_tokens",
        "padding",
        "padding_side",
        "return_attention_mask",
        "return_token_type_ids",
        "split_special_tokens",
    }
)


@dataclass(frozen=True)
class TextOptions:
    """What every task's call takes.

    `truncation`: None shortens over-long texts and warns once a pipeline, False refuses them, True or the name of a
    strategy shortens them without a word. `max_length`: tokens of one text at most. `tokenizer_arguments` go to the
    tokenizer; they are given by name or in one dictionary, `tokenizer_kwargs` or `tokenize_kwargs`.
    """

    aliases: ClassVar[Mapping[str, str]] = {}

    truncation: bool | str | None = None
    max_length: int | None = None
    tokenizer_arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """One sequence for the model: ids, and token types and mask where they say something.

    `batch` and `index` are the tokenizer's output that it came from, for offsets and words.
    """

    ids: list[int]
    types: list[int] | None
    mask: list[int] | None
    batch: BatchEncoding
    index: int

    def __len__(self) -> int:
        return len(self.ids)


def position_limit(model: PreTrainedModel) -> int | None:
    """The longest input, in tokens, that the model has position embeddings for; None where there is no table."""
    spec = getattr(model, "spec", None)
    spec = getattr(spec, "encoder", None) or spec
    if spec is None or spec.positions is None or spec.sinusoids == "computed":
        return None
    return int(spec.positions - spec.first_position)


class TextEncoder:
    """A tokenizer together with what its model can take. Calls change nothing but the flag of the one warning."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
        self.tokenizer = tokenizer
        self.positions = position_limit(model)
        self.vocab_size = int(getattr(model.config, "vocab_size", 0))
        self._warning: Iterator[bool] = iter((True,))
        # Some tokenizers give token types to models that have none.
        self._types = getattr(getattr(model, "spec", None), "token_types", 1) > 0
        # Token types of a lone text are zero, the model's default, with nearly every tokenizer.
        self._types_alone = any(tokenizer("a").get("token_type_ids") or ())

    @property
    def limit(self) -> int | None:
        """The longest input, in tokens, special tokens included; None if there is no limit."""
        declared = self.tokenizer.model_max_length
        limits = [n for n in (declared, self.positions) if n is not None and n < 10**9]
        return min(limits, default=None)

    def rows(
        self,
        texts: Sequence[Text],
        options: TextOptions,
        *,
        strategy: str = "longest_first",
        wanted: Mapping[str, bool] = MappingProxyType({}),
        declared: bool = True,
    ) -> list[Row]:
        """One row a text, over-long texts treated as `options.truncation` says.

        `strategy` is how they are shortened where the options name none; `wanted` are further outputs of the tokenizer,
        such as return_offsets_mapping. Without `declared` only the model's positions limit a text, not what the
        tokenizer is made for.
        """
        limit = self.limit if declared else self.positions
        alone = [index for index, text in enumerate(texts) if type(text) is not tuple]
        if len(alone) == len(texts):
            return self._same_kind(texts, options, strategy, wanted, limit)
        rows: list[Row | None] = [None] * len(texts)
        pairs = [index for index, text in enumerate(texts) if type(text) is tuple]
        for places in (alone, pairs) if alone else (pairs,):
            same = self._same_kind([texts[index] for index in places], options, strategy, wanted, limit)
            for index, row in zip(places, same, strict=True):
                rows[index] = row
        return [row for row in rows if row is not None]

    def _same_kind(
        self,
        texts: Sequence[Text],
        options: TextOptions,
        strategy: str,
        wanted: Mapping[str, bool],
        limit: int | None,
    ) -> list[Row]:
        rows = self._tokenize(texts, options, wanted)
        asked = None if options.truncation is False else options.max_length
        if asked is not None and (limit is None or asked < limit):
            limit = asked
        if limit is None:
            return rows
        for index, row in enumerate(rows):
            if len(row.ids) > limit:
                rows[index] = self._shorten(texts[index], len(row.ids), limit, options, strategy, wanted)
        return rows

    def _shorten(
        self,
        text: Text,
        length: int,
        limit: int,
        options: TextOptions,
        strategy: str,
        wanted: Mapping[str, bool],
    ) -> Row:
        if options.truncation is False:
            raise InputError(
                f"An input has {length} tokens; this model takes at most {limit}, and truncation=False was given.",
                "Shorten the input, or leave truncation out to have it cut to fit.",
            )
        if options.truncation is None and limit != options.max_length and next(self._warning, False):
            warn(
                f"An input has {length} tokens and was cut to {limit}, the most that this model takes; later ones will "
                "be cut without a warning. Pass truncation=True to agree, or truncation=False to get an error instead."
            )
        if isinstance(options.truncation, str):
            strategy = options.truncation
        try:
            return self._tokenize([text], options, {**wanted, "truncation": strategy, "max_length": limit})[0]
        except Exception as error:
            raise InputError(
                f"An input of {length} tokens cannot be cut to {limit} tokens by the strategy {strategy!r} ({error}).",
                "Shorten the other text of the pair, or choose truncation='longest_first'.",
            ) from error

    def pieces(
        self,
        texts: Sequence[Text],
        options: TextOptions,
        *,
        longest: int,
        stride: int,
        strategy: str = "longest_first",
        wanted: Mapping[str, bool] = MappingProxyType({}),
    ) -> list[list[Row]]:
        """The rows of each text: pieces of at most `longest` tokens, special ones included, with `stride` in common."""
        call = {"truncation": strategy, "max_length": longest, "stride": stride, "return_overflowing_tokens": True}
        try:
            rows = self._tokenize(texts, options, {**wanted, **call})
        except Exception as error:
            raise InputError(
                f"A text cannot be cut into pieces of {longest} tokens that share {stride} ({error}).",
                "Make the stride smaller; of a question with a context, cut the question with max_question_len=.",
            ) from error
        pieces: list[list[Row]] = [[] for _ in texts]
        for row, owner in zip(rows, rows[0].batch["overflow_to_sample_mapping"], strict=True):
            pieces[owner].append(row)
        return pieces

    def _tokenize(self, texts: Sequence[Text], options: TextOptions, arguments: Mapping[str, Any]) -> list[Row]:
        pair = type(texts[0]) is tuple
        padded = options.tokenizer_arguments.get("padding") == "max_length"
        call: dict[str, Any] = {"return_attention_mask": padded, "return_token_type_ids": None, "verbose": False}
        if not pair and not self._types_alone:
            call["return_token_type_ids"] = False
        call.update(options.tokenizer_arguments)
        if padded:
            call["max_length"] = options.max_length or self.limit
        else:
            # Padding to the longest is for batches, which are made later.
            call.pop("padding", None)
        call.update(arguments)
        if pair:
            batch = self.tokenizer([text[0] for text in texts], [text[1] for text in texts], **call)
        else:
            batch = self.tokenizer(list(texts), **call)
        return rows_of(batch)

    def collate(self, rows: Sequence[Row], device: torch.device) -> dict[str, Tensor]:
        """The model's arguments for some rows: input_ids (B, S), attention_mask and token_type_ids where needed.

        Rows are padded at their ends, whatever the tokenizer's side: so a text's positions do not hang on its batch.
        """
        lengths = [len(row.ids) for row in rows]
        longest = max(lengths)
        self._check(rows, min(lengths))
        if min(lengths) == longest:
            tensors = {"input_ids": torch.tensor([row.ids for row in rows], device=device)}
        else:
            pad = self.tokenizer.pad_token_id
            if pad is None:
                raise InputError(
                    "The texts of a batch differ in length, and the tokenizer has no padding token.",
                    "Set one, such as pipe.tokenizer.pad_token = pipe.tokenizer.eos_token, or leave batch_size out.",
                )
            ids = [row.ids + [pad] * (longest - len(row.ids)) for row in rows]
            real = torch.arange(longest) < torch.tensor(lengths)[:, None]
            tensors = {
                "input_ids": torch.tensor(ids, device=device),
                "attention_mask": real.to(device=device, dtype=torch.long),
            }
        if any(row.mask is not None for row in rows):
            tensors["attention_mask"] = _padded([row.mask or [1] * len(row.ids) for row in rows], longest, device)
        if self._types and any(row.types is not None for row in rows):
            tensors["token_type_ids"] = _padded([row.types or [0] * len(row.ids) for row in rows], longest, device)
        return tensors

    def _check(self, rows: Sequence[Row], shortest: int) -> None:
        if shortest == 0:
            raise InputError("An input has no tokens at all.", "Leave add_special_tokens out, or skip empty texts.")
        highest = max(max(row.ids) for row in rows)
        if self.vocab_size and highest >= self.vocab_size:
            raise InputError(
                f"The tokenizer gave the id {highest}; the model knows the ids 0 to {self.vocab_size - 1}.",
                "Tokenizer and model do not belong together: load both from one name, or call "
                "model.resize_token_embeddings(len(tokenizer)) and train the new tokens.",
            )


def rows_of(batch: BatchEncoding) -> list[Row]:
    """The rows of a tokenizer's output in lists; a mask or token types that say nothing are left out."""
    ids, types, masks = batch["input_ids"], batch.get("token_type_ids"), batch.get("attention_mask")
    return [
        Row(
            ids[index],
            None if types is None or not any(types[index]) else types[index],
            None if masks is None or all(masks[index]) else masks[index],
            batch,
            index,
        )
        for index in range(len(ids))
    ]


def _padded(values: list[list[int]], longest: int, device: torch.device) -> Tensor:
    return torch.tensor([row + [0] * (longest - len(row)) for row in values], device=device)


def require_text(item: Any) -> str:
    """The input, if it is a text."""
    if isinstance(item, str):
        return item
    raise InputError(
        f"An input is of type {type(item).__name__}; a text (str) is expected.",
        "Pass a text, or texts in a list or an iterator; of a dataset, pass the column of texts.",
    )
