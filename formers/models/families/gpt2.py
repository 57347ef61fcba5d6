"""GPT-2 (Radford et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import UnsupportedError
from formers.models.families.llama import token_dropout
from formers.models.keys import Fuse, Rename
from formers.models.spec import DECODER, Definition, HeadSpec, ModelSpec


@config_dataclass
class GPT2Config(PreTrainedConfig):
    """Configuration of GPT-2."""

    model_type = "gpt2"
    attribute_map: ClassVar[Mapping[str, str]] = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    summary_type: str = "cls_index"
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    scale_attn_weights: bool = True
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False


def spec(config: GPT2Config) -> ModelSpec:
    """GPT-2 in neutral terms."""
    if config.scale_attn_by_inverse_layer_idx:
        raise UnsupportedError(
            "Attention scaled by layer is not built for GPT-2.", "Set scale_attn_by_inverse_layer_idx to False."
        )
    return ModelSpec(
        vocab_size=config.vocab_size,
        width=config.n_embd,
        layers=config.n_layer,
        heads=config.n_head,
        ff_width=config.n_inner or 4 * config.n_embd,
        activation=config.activation_function,
        head=HeadSpec(dropout=token_dropout(config), decoder_bias=False),
        norm_eps=config.layer_norm_epsilon,
        norm_first=True,
        embedding_norm=False,
        positions=config.n_positions,
        causal=True,
        dropout=config.resid_pdrop,
        embedding_dropout=config.embd_pdrop,
        attention_dropout=config.attn_pdrop,
        score_scale=None if config.scale_attn_weights else 1.0,
        initializer_range=config.initializer_range,
        cross_width=config.n_embd if config.add_cross_attention else None,
    )


_QKV = tuple(f"layers.{{}}.self_attn.{part}_proj" for part in "qkv")
_CROSS = "layers.{{}}.cross.attention.{}"
LM_HEAD = (Rename("lm_head", "head.output"),)
HEADS = {
    "ForCausalLM": LM_HEAD,
    "LMHeadModel": LM_HEAD,
    "ForSequenceClassification": (Rename("score", "head.output"),),
    "ForTokenClassification": (Rename("classifier", "head.output"),),
    "ForQuestionAnswering": (Rename("qa_outputs", "head.output"),),
}

DEFINITIONS = {
    "gpt2": Definition(
        config=GPT2Config,
        spec=spec,
        base_prefix="transformer",
        rules=(
            Rename("wte", "embeddings.tokens"),
            Rename("wpe", "embeddings.positions"),
            Rename("h.{}.ln_1", "layers.{}.attn_norm"),
            Fuse("h.{}.attn.c_attn", _QKV, transpose=True),
            Rename("h.{}.attn.c_proj", "layers.{}.self_attn.o_proj", transpose=True),
            Rename("h.{}.ln_cross_attn", "layers.{}.cross.norm"),
            Rename("h.{}.crossattention.q_attn", _CROSS.format("q_proj"), transpose=True),
            Fuse("h.{}.crossattention.c_attn", (_CROSS.format("k_proj"), _CROSS.format("v_proj")), transpose=True),
            Rename("h.{}.crossattention.c_proj", _CROSS.format("o_proj"), transpose=True),
            Rename("h.{}.ln_2", "layers.{}.mlp_norm"),
            Rename("h.{}.mlp.c_fc", "layers.{}.mlp.up_proj", transpose=True),
            Rename("h.{}.mlp.c_proj", "layers.{}.mlp.down_proj", transpose=True),
            Rename("ln_f", "norm"),
        ),
        head_rules=HEADS,
        ignored=("*attn.bias", "*attn.masked_bias"),
        architectures=DECODER,
    )
}
