"""Encoder–decoders that read sound: the encoder's convolutions, and what takes features in place of ids.

Shapes: B recordings, M bands, F frames, S = F / 2 states of the encoder, T tokens of the decoder, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.errors import InputError, UnsupportedError
from formers.layers.cache import Cache
from formers.layers.dropout import dropout
from formers.layers.linear import Linear
from formers.models.base import PreTrainedModel
from formers.models.encoder import Encoded, EncoderModel
from formers.models.heads import class_loss
from formers.models.seq2seq import Seq2SeqModel, as_output
from formers.models.seq2seq_heads import Seq2SeqForConditionalGeneration
from formers.outputs import SequenceClassifierOutput

if TYPE_CHECKING:
    from formers.configuration import PreTrainedConfig
    from formers.generation.config import GenerationConfig
    from formers.generation.processing import LogitsProcessor
    from formers.models.spec import ModelSpec

# Frames that become one state.
STRIDE = 2


class FramePositions(nn.Embedding):
    """Sines and cosines that are not trained but stand in files."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__(count, width, _weight=torch.empty(count, width), _freeze=True)

    @torch.no_grad()
    def reset(self) -> None:
        """Fill the table: rates fall from 1 to 1/10000."""
        count, width = self.weight.shape
        rates = 10000.0 ** -torch.linspace(0, 1, width // 2, dtype=torch.float64)
        angles = torch.arange(count)[:, None] * rates
        self.weight.copy_(torch.cat((angles.sin(), angles.cos()), dim=1))


class FrameEmbeddings(nn.Module):
    """Two convolutions over the frames, the second of which halves them, and positions."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        assert spec.frames is not None
        count, bands = spec.frames
        self.dropout = spec.dropout
        self.conv1 = nn.Conv1d(bands, spec.width, 3, padding=1)
        self.conv2 = nn.Conv1d(spec.width, spec.width, 3, stride=STRIDE, padding=1)
        self.positions: nn.Embedding = FramePositions(count, spec.width)

    def states(self, features: Tensor) -> Tensor:
        """Features (B, M, F) to states (B, S, W)."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(features))))
        return x.transpose(1, 2) + self.positions.weight

    def forward(self, states: Tensor, positions: Tensor | None, token_types: Tensor | None) -> Tensor:
        """Flat states (N, W) as they are, but for dropout."""
        return dropout(states, self.dropout, self.training)


class SpeechEncoder(EncoderModel):
    """Features (B, M, F) of sound to hidden states (B, S, W)."""

    main_input_name = "input_features"

    @property
    def stem(self) -> FrameEmbeddings:
        """The convolutions."""
        return cast(FrameEmbeddings, self.embeddings)

    def get_input_embeddings(self) -> nn.Embedding:
        """The positions of the frames: there are no tokens."""
        return self.stem.positions

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the positions of the frames."""
        self.stem.positions = value

    def forward(  # type: ignore[override]  # sound has no tokens
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Hidden states. `attention_mask` changes nothing: padding is silence, and is read."""
        return super().forward(
            input_features,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
        )

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        keep_padding: bool = False,
        first_only: bool = False,
    ) -> Encoded:
        """Features (B, M, F), in the place of ids, to hidden states."""
        features = self._checked(input_ids)
        if self.training and getattr(self.config, "apply_spec_augment", False):
            raise UnsupportedError(
                "config.apply_spec_augment asks for masked features in training.",
                "Set it to False, and mask features yourself.",
            )
        return super().encode(
            inputs_embeds=self.stem.states(features),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )

    def _checked(self, features: Tensor | None) -> Tensor:
        assert self.spec.frames is not None
        count, bands = self.spec.frames
        wanted = (bands, count * STRIDE)
        if not isinstance(features, Tensor) or features.dim() != 3 or tuple(features.shape[1:]) != wanted:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(
                f"input_features has the shape {got}; (batch, {wanted[0]}, {wanted[1]}) is expected.",
                "Make them with the model's feature extractor, padded to its longest recording.",
            )
        return features.to(self.stem.conv1.weight.dtype)


class SpeechSeq2Seq(Seq2SeqModel):
    """An encoder of sound and a decoder of text, without a head."""

    main_input_name = "input_features"
    tied: ClassVar[Mapping[str, str]] = {}

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embeddings of the decoder."""
        return self.decoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embeddings of the decoder."""
        self.decoder.set_input_embeddings(value)

    def forward(  # type: ignore[override]  # sound has no tokens
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Hidden states of every decoder token. `attention_mask` as in SpeechEncoder."""
        return super().forward(
            input_features,
            None,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            past_key_values,
            None,
            decoder_inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
            return_dict,
        )


class SpeechForClassification(PreTrainedModel):
    """Logits (B, labels) of recordings, from the mean of the encoder's states. `labels` (B)."""

    main_input_name = "input_features"
    # The encoder's class, set when the concrete class is made.
    base_class: ClassVar[type[SpeechEncoder]]

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = self.base_class(config)
        values: Any = config
        self.layer_weights: nn.Parameter | None = None
        if values.use_weighted_layer_sum:
            count = self.spec.layers + 1
            self.layer_weights = nn.Parameter(torch.ones(count) / count)
        self.projector = Linear(self.spec.width, values.classifier_proj_size)
        self.classifier = Linear(values.classifier_proj_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_features: Tensor | None = None,
        encoder_outputs: Any = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits, and the loss when `labels` are given. Features (B, M, F), or what the encoder made of them."""
        weighted = self.layer_weights is not None
        encoded = as_output(encoder_outputs)
        if encoded is None:
            encoded = self.model(input_features, None, output_attentions, weighted or output_hidden_states, True)
        states = encoded.last_hidden_state
        if self.layer_weights is not None:
            assert encoded.hidden_states is not None
            weights = self.layer_weights.softmax(-1)
            states = (torch.stack(encoded.hidden_states, dim=1) * weights.view(-1, 1, 1)).sum(1)
        logits = self.classifier(self.projector(states).mean(1))
        loss = None if labels is None else class_loss(logits, labels)
        hidden = encoded.hidden_states if output_hidden_states or not weighted else None
        return self.finish(SequenceClassifierOutput(loss, logits, hidden, encoded.attentions), return_dict)


class SpeechForConditionalGeneration(Seq2SeqForConditionalGeneration):
    """Vocabulary logits (B, T, V) of a transcript. `labels` (B, T), -100 where nothing is learnt."""

    main_input_name = "input_features"
    # The decoder's prompt is a task, and taken as it is.
    keeps_decoder_prompt = True
    tied: ClassVar[Mapping[str, str]] = {"head.output.weight": "model.decoder.embeddings.tokens.weight"}

    def forward(  # type: ignore[override]  # sound has no tokens
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
    ) -> Any:
        """Logits, the loss when `labels` are given, and the cache. `attention_mask` as in SpeechEncoder."""
        return super().forward(
            input_features,
            None,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            past_key_values,
            None,
            decoder_inputs_embeds,
            labels,
            use_cache,
            output_attentions,
            output_hidden_states,
            return_dict,
            logits_to_keep,
        )

    def generate(  # type: ignore[override]  # sound has no tokens
        self,
        input_features: Tensor | None = None,
        generation_config: GenerationConfig | Mapping[str, Any] | None = None,
        logits_processor: Iterable[LogitsProcessor] | None = None,
        stopping_criteria: Iterable[Callable[..., Any]] | None = None,
        *,
        inputs: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_timestamps: bool | None = None,
        task: str | None = None,
        language: str | Sequence[str] | None = None,
        is_multilingual: bool | None = None,
        prompt_ids: Any = None,
        prompt_condition_type: str | None = None,
        condition_on_prev_tokens: bool | None = None,
        temperature: float | Sequence[float] | None = None,
        compression_ratio_threshold: float | None = None,
        logprob_threshold: float | None = None,
        no_speech_threshold: float | None = None,
        return_token_timestamps: bool | None = None,
        return_segments: bool = False,
        monitor_progress: Callable[[Tensor], None] | None = None,
        **settings: Any,
    ) -> Any:
        """Transcripts of features (B, M, F): ids (B, T), padded, without the decoder's prompt and the end.

        Features longer than the model's window are transcribed window by window; `attention_mask` (B, F) says which
        frames of them are sound. language: a code or an English name, or one for each recording; detected without it.
        prompt_ids: the context of the first window (or with prompt_condition_type="all-segments" of all).
        condition_on_prev_tokens: what has been written is the context of the next window. temperature: one, or those to
        try while a text compresses better than `compression_ratio_threshold` or its mean log-probability is below
        `logprob_threshold`; a window is left out if silence is also likelier than `no_speech_threshold`.

        return_segments, return_token_timestamps: give a dictionary of "sequences" and of "segments" (start, end and
        tokens) or "token_timestamps" (B, T) in seconds. Other settings are those of GenerationConfig.
        """
        from formers.generation.transcripts import generate

        return generate(
            self,
            input_features if inputs is None else inputs,
            attention_mask,
            return_segments,
            settings,
            generation_config=generation_config,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            return_timestamps=return_timestamps,
            task=task,
            language=language,
            is_multilingual=is_multilingual,
            prompt_ids=prompt_ids,
            prompt_condition_type=prompt_condition_type,
            condition_on_prev_tokens=condition_on_prev_tokens,
            temperature=temperature,
            compression_ratio_threshold=compression_ratio_threshold,
            logprob_threshold=logprob_threshold,
            no_speech_threshold=no_speech_threshold,
            return_token_timestamps=return_token_timestamps,
            monitor_progress=monitor_progress,
        )

    def detect_language(self, input_features: Tensor) -> Tensor:
        """The ids (B,) of the languages that are heard in features (B, M, F)."""
        from formers.generation.transcripts import languages

        return languages(self, input_features)
