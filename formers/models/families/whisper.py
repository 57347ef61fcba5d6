"""Whisper (Radford et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.models.families.bart import BLOCKS
from formers.models.keys import Rename, Rule, prefixed
from formers.models.spec import Definition, HeadSpec, ModelSpec
from formers.models.speech import FrameEmbeddings


@config_dataclass
class WhisperConfig(PreTrainedConfig):
    """Configuration of Whisper."""

    model_type = "whisper"
    attribute_map: ClassVar[Mapping[str, str]] = {
        "num_key_value_heads": "encoder_attention_heads",
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: int = 51865
    num_mel_bins: int = 80
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    decoder_layers: int = 4
    decoder_attention_heads: int = 6
    decoder_ffn_dim: int = 1536
    encoder_ffn_dim: int = 1536
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    decoder_start_token_id: int | None = 50257
    use_cache: bool = True
    is_encoder_decoder: bool = True
    activation_function: str = "gelu"
    d_model: int = 384
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    max_source_positions: int = 1500
    max_target_positions: int = 448
    pad_token_id: int | None = 50256
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = field(default_factory=lambda: [220, 50256])
    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256
    apply_spec_augment: bool = False
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0
    median_filter_width: int = 7


def spec(config: WhisperConfig) -> ModelSpec:
    """Whisper in neutral terms: its decoder, which names the encoder."""
    shared: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "width": config.d_model,
        "activation": config.activation_function,
        "head": HeadSpec(dropout=0.0, decoder_bias=False),
        "norm_eps": 1e-5,
        "norm_first": True,
        "embedding_norm": False,
        "key_bias": False,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "ff_dropout": config.activation_dropout,
        "initializer_range": config.init_std,
    }
    encoder = ModelSpec(
        layers=config.encoder_layers,
        heads=config.encoder_attention_heads,
        ff_width=config.encoder_ffn_dim,
        layer_dropout=config.encoder_layerdrop,
        embeddings=FrameEmbeddings,
        frames=(config.max_source_positions, config.num_mel_bins),
        **shared,
    )
    return replace(
        encoder,
        layers=config.decoder_layers,
        heads=config.decoder_attention_heads,
        ff_width=config.decoder_ffn_dim,
        layer_dropout=config.decoder_layerdrop,
        embeddings=None,
        frames=None,
        embedding_scale=config.d_model**0.5 if config.scale_embedding else None,
        positions=config.max_target_positions,
        pad_token_id=config.pad_token_id,
        causal=True,
        cross_width=config.d_model,
        encoder=encoder,
    )


def _encoder_spec(config: WhisperConfig) -> ModelSpec:
    half = spec(config).encoder
    assert half is not None
    return half


_ENCODER: tuple[Rule, ...] = (Rename("conv1", "embeddings.conv1"), Rename("conv2", "embeddings.conv2"), *BLOCKS)
_DECODER: tuple[Rule, ...] = (Rename("embed_tokens", "embeddings.tokens"), *BLOCKS)
_HEADS: Mapping[str, tuple[Rule, ...]] = dict.fromkeys(
    ("ForCausalLM", "ForConditionalGeneration"), (Rename("proj_out", "head.output"),)
)
_FIRST = Definition(
    config=WhisperConfig,
    spec=_encoder_spec,
    base_prefix="model",
    rules=prefixed(_ENCODER, "encoder.", ""),
    ignored=("*decoder.*", "proj_out.weight"),
    architectures={"EncoderModel": "SpeechEncoder", "ForAudioClassification": "SpeechForClassification"},
    base="EncoderModel",
)
# The encoder of a classifier has another name in files than that of the whole.
_CLASSIFIER = replace(_FIRST, base_prefix="encoder", rules=_ENCODER)
_SECOND = Definition(
    config=WhisperConfig,
    spec=spec,
    base_prefix="model.decoder",
    rules=_DECODER,
    head_rules=_HEADS,
    architectures={"ForCausalLM": "DecoderForCausalLM"},
    base="DecoderModel",
)

DEFINITIONS = {
    "whisper": Definition(
        config=WhisperConfig,
        spec=spec,
        base_prefix="model",
        rules=(*prefixed(_ENCODER, "encoder.", "encoder."), *prefixed(_DECODER, "decoder.", "decoder.")),
        head_rules=_HEADS,
        architectures={"Model": "SpeechSeq2Seq", "ForConditionalGeneration": "SpeechForConditionalGeneration"},
        halves={
            "EncoderModel": _FIRST,
            "ForAudioClassification": _CLASSIFIER,
            "DecoderModel": _SECOND,
            "ForCausalLM": _SECOND,
        },
    )
}
