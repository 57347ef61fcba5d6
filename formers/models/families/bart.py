"""BART (Lewis et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.models.halves import encoder_decoder
from formers.models.keys import Rename, Rule
from formers.models.spec import Definition, HeadSpec, ModelSpec, Transform


@config_dataclass
class BartConfig(PreTrainedConfig):
    """Configuration of BART."""

    model_type = "bart"
    attribute_map: ClassVar[Mapping[str, str]] = {
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: int = 50265
    max_position_embeddings: int = 1024
    encoder_layers: int = 12
    encoder_ffn_dim: int = 4096
    encoder_attention_heads: int = 16
    decoder_layers: int = 12
    decoder_ffn_dim: int = 4096
    decoder_attention_heads: int = 16
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    activation_function: str = "gelu"
    d_model: int = 1024
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    classifier_dropout: float = 0.0
    scale_embedding: bool = False
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    is_encoder_decoder: bool = True
    decoder_start_token_id: int | None = 2
    forced_eos_token_id: int | list[int] | None = 2


def bart_spec(config: Any, **differences: Any) -> ModelSpec:
    """A BART in neutral terms, from a configuration with BART's field names, with what differs."""
    shared: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "width": config.d_model,
        "activation": config.activation_function,
        "head": HeadSpec(
            dropout=config.dropout,
            decoder_bias=False,
            logits_bias=True,
        ),
        "norm_eps": 1e-5,
        "embedding_scale": config.d_model**0.5 if config.scale_embedding else None,
        "positions": config.max_position_embeddings + 2,
        "position_offset": 2,
        "pad_token_id": config.pad_token_id,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "ff_dropout": config.activation_dropout,
        "initializer_range": config.init_std,
        **differences,
    }
    encoder = ModelSpec(
        layers=config.encoder_layers,
        heads=config.encoder_attention_heads,
        ff_width=config.encoder_ffn_dim,
        layer_dropout=config.encoder_layerdrop,
        **shared,
    )
    return replace(
        encoder,
        layers=config.decoder_layers,
        heads=config.decoder_attention_heads,
        ff_width=config.decoder_ffn_dim,
        layer_dropout=config.decoder_layerdrop,
        causal=True,
        cross_width=config.d_model,
        encoder=encoder,
    )


def head(config: Any, **differences: Any) -> HeadSpec:
    """BART's heads."""
    given = getattr(config, "classifier_dropout", 0.0)
    return HeadSpec(
        **{
            "dropout": given,
            "classifier": Transform("tanh", dropout=given),
            "decoder_bias": False,
            "logits_bias": True,
            **differences,
        }
    )


def spec(config: BartConfig) -> ModelSpec:
    """BART in neutral terms."""
    return bart_spec(config, head=head(config, own_inputs=True))


def rules(config: Any) -> list[Rule]:
    """The keys of either half."""
    layer = "layers.{}."
    return [
        Rename("embed_positions", "embeddings.positions"),
        Rename("layernorm_embedding", "embeddings.norm"),
        Rename(layer + "self_attn.out_proj", layer + "self_attn.o_proj"),
        Rename(layer + "self_attn_layer_norm", layer + "attn_norm"),
        Rename(layer + "encoder_attn.out_proj", layer + "cross.attention.o_proj"),
        Rename(layer + "encoder_attn", layer + "cross.attention"),
        Rename(layer + "encoder_attn_layer_norm", layer + "cross.norm"),
        Rename(layer + "fc1", layer + "mlp.up_proj"),
        Rename(layer + "fc2", layer + "mlp.down_proj"),
        Rename(layer + "final_layer_norm", layer + "mlp_norm"),
        Rename("layer_norm", "norm"),
    ]


LOGITS: tuple[Rule, ...] = (Rename("final_logits_bias", "head.bias"), Rename("lm_head", "head.output"))
HEADS: Mapping[str, tuple[Rule, ...]] = {
    "ForCausalLM": LOGITS[1:],
    "ForConditionalGeneration": LOGITS,
    "MTModel": LOGITS,
    "ForSequenceClassification": (
        Rename("classification_head.dense", "head.transform.dense"),
        Rename("classification_head.out_proj", "head.output"),
    ),
    "ForQuestionAnswering": (Rename("qa_outputs", "head.output"),),
}


def bart(config: type[PreTrainedConfig], spec: Any) -> Definition:
    """The definition of a family with BART's keys."""
    return encoder_decoder(
        config,
        spec,
        encoder=rules,
        decoder=rules,
        base_prefix="model",
        head_rules=HEADS,
        ignored=("*encoder.version", "*decoder.version"),
    )


DEFINITIONS = {"bart": bart(BartConfig, spec)}
