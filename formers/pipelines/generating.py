"""What the pipelines that generate have in common: options, settings, and batches that end row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from formers.generation.config import GenerationConfig
from formers.generation.config import names as setting_names
from formers.generation.planning import Call
from formers.generation.processing import LogitsProcessor
from formers.pipelines.batching import ACCELERATOR_TOKENS, CPU_TOKENS, by_length, in_order
from formers.pipelines.encoding import Row, TextOptions

# Tokens that a text is expected to grow by, when texts are put into batches.
_GROWTH = 64


@dataclass(frozen=True)
class GenerationOptions(TextOptions):
    """What a call takes beside the settings of generation, which are the fields of GenerationConfig."""

    return_tensors: bool | None = None
    return_text: bool | None = None
    return_type: int | None = None
    clean_up_tokenization_spaces: bool | None = None
    generation_config: GenerationConfig | Mapping[str, Any] | None = None
    streamer: Any = None
    assistant_model: Any = None
    logits_processor: Iterable[LogitsProcessor] | None = None
    stopping_criteria: Iterable[Callable[..., Any]] | None = None
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def call(self, ids: list[list[int]], tokenizer: Any, **base: Any) -> Call:
        """The call of generation with these prompts."""
        return Call(
            ids,
            logits_processor=self.logits_processor,
            stopping_criteria=self.stopping_criteria,
            prefix_allowed_tokens_fn=self.prefix_allowed_tokens_fn,
            assistant_model=self.assistant_model,
            tokenizer=tokenizer,
            streamer=self.streamer,
            **base,
        )


def apart(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a call, and the settings of generation among them; `stop_sequence` is one of stop_strings."""
    options = dict(given)
    stop = options.pop("stop_sequence", None)
    if stop is not None:
        options.setdefault("stop_strings", stop)
    return options, {name: options.pop(name) for name in sorted(setting_names() & options.keys())}


def groups(rows: Sequence[Row], size: int | None, on_cpu: bool) -> list[list[int]]:
    """Rows in batches; rows end one by one and no padding is computed, so that these may be larger than elsewhere."""
    if size is not None:
        return in_order(len(rows), size)
    return by_length([len(row.ids) + _GROWTH for row in rows], 4 * (CPU_TOKENS if on_cpu else ACCELERATOR_TOKENS))
