"""Models that generate, whatever their architecture, and the head that gives logits for the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from formers.hub.atomic import write_json
from formers.hub.files import ModelFiles
from formers.layers.cache import Cache
from formers.layers.linear import Linear
from formers.models.base import PreTrainedModel
from formers.models.heads import TransformLayer
from formers.models.spec import ModelSpec

if TYPE_CHECKING:
    from formers.generation.config import GenerationConfig
    from formers.generation.processing import LogitsProcessor

GENERATION_FILE = "generation_config.json"


class VocabularyHead(nn.Module):
    """Logits for the vocabulary, scaled and bounded as the family does, on any selection (…, W) of hidden states."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        transform = spec.head.masked_lm
        self.transform = None if transform is None else TransformLayer(spec.width, transform, spec)
        self.output = Linear(spec.embedding_width or spec.width, spec.vocab_size, bias=spec.head.decoder_bias)
        self.scale, self.cap = spec.logit_scale, spec.logit_cap
        bias = torch.zeros(1, spec.vocab_size) if spec.head.logits_bias else None
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) to (…, V)."""
        logits: Tensor = self.output(x if self.transform is None else self.transform(x))
        if self.scale is not None:
            logits = logits * self.scale
        if self.bias is not None:
            # A vocabulary for many rows is long to copy.
            logits = logits + self.bias if torch.is_grad_enabled() else logits.add_(self.bias)
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


class GenerativeModel(PreTrainedModel):
    """A model that writes token after token."""

    _generation_config: GenerationConfig | None = None

    @property
    def generation_config(self) -> GenerationConfig:
        """What `generate` does unless told otherwise: generation_config.json, or what the configuration says."""
        if self._generation_config is None:
            from formers.generation.config import GenerationConfig

            self._generation_config = GenerationConfig.from_model_config(self.config)
        return self._generation_config

    @generation_config.setter
    def generation_config(self, value: GenerationConfig | None) -> None:
        self._generation_config = value

    def read_settings(self, files: ModelFiles) -> None:
        """Read generation_config.json, if there is one."""
        if files.find(GENERATION_FILE) is not None:
            from formers.generation.config import GenerationConfig

            self._generation_config = GenerationConfig.from_dict(files.read_json(GENERATION_FILE))

    def write_settings(self, folder: Path) -> None:
        """Write generation_config.json."""
        # As it is, contradictions that came with the model included: it must be possible to save any model.
        write_json(folder / GENERATION_FILE, self.generation_config.to_diff_dict())

    def can_generate(self) -> bool:
        """Yes."""
        return True

    def generate(
        self,
        inputs: Any = None,
        generation_config: GenerationConfig | Mapping[str, Any] | None = None,
        logits_processor: Iterable[LogitsProcessor] | None = None,
        stopping_criteria: Iterable[Callable[..., Any]] | None = None,
        prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None,
        synced_gpus: bool | None = None,
        assistant_model: Any = None,
        streamer: Any = None,
        *,
        input_ids: Any = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        tokenizer: Any = None,
        **settings: Any,
    ) -> Any:
        """Continue prompts (B, S), padded on either side: see `formers.generation.generate`."""
        from formers.generation.generate import generate

        return generate(
            self,
            inputs,
            generation_config,
            logits_processor,
            stopping_criteria,
            prefix_allowed_tokens_fn,
            synced_gpus,
            assistant_model,
            streamer,
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            tokenizer=tokenizer,
            **settings,
        )

    def compute_transition_scores(
        self,
        sequences: Tensor,
        scores: Sequence[Tensor],
        beam_indices: Tensor | None = None,
        normalize_logits: bool = False,
    ) -> Tensor:
        """The score of each generated token, (B, steps): see `formers.generation.results`."""
        from formers.generation.results import transition_scores

        return transition_scores(sequences, scores, beam_indices, normalize_logits)
