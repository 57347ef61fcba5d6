"""From a GGUF file's metadata to what `config.json` would hold.

Keys are llama.cpp's, values the reference's names. What llama.cpp fixes in its code rather than in the file (Gemma's
scale of queries, SmolLM3's layers without rotation) is written out, so that a saved configuration is complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from formers.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from formers.hub.gguf import GGUFFile

Values = dict[str, Any]


class Facts:
    """The metadata of one model, without its architecture's prefix, and the names of its tensors."""

    def __init__(self, files: Sequence[GGUFFile]) -> None:
        self.files = files
        self.architecture = str(files[0].get("general.architecture", ""))

    @property
    def name(self) -> str:
        """The file, for messages."""
        return str(self.files[0].path)

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number; of one a layer, the one that all layers have."""
        value = self.files[0].get(f"{self.architecture}.{key}", default)
        if isinstance(value, list):
            if len(set(value)) != 1:
                raise UnsupportedError(f"{self.name} gives every layer its own {key}.", "Use another model.")
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._bad(key, value, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number, as short as its float32 allows."""
        value = self.files[0].get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._bad(key, value, "a number")
        return float(f"{value:.7g}")

    def text(self, key: str) -> str | None:
        """A string, None if there is none."""
        value = self.files[0].get(f"{self.architecture}.{key}")
        if value is not None and not isinstance(value, str):
            raise self._bad(key, value, "a string")
        return value

    def has(self, key: str) -> bool:
        """Whether there is such metadata."""
        return f"{self.architecture}.{key}" in self.files[0]

    def holds(self, tensor: str) -> bool:
        """Whether there is such a tensor."""
        return any(tensor in file.tensors for file in self.files)

    def rows(self, tensor: str) -> int:
        """The first dimension of a tensor."""
        return next((file.tensors[tensor].shape[0] for file in self.files if tensor in file.tensors), 0)

    def numbers(self, tensor: str) -> list[float]:
        """The values of a small tensor."""
        file = next(file for file in self.files if tensor in file.tensors)
        return [float(f"{value:.7g}") for value in file.tensor(tensor).flatten().tolist()]

    @property
    def head_dim(self) -> int:
        """The width of an attention head."""
        heads = self.whole("attention.head_count")
        if heads < 1:
            raise self._bad("attention.head_count", heads, "at least 1")
        return self.whole("attention.key_length", self.whole("embedding_length") // heads)

    @property
    def rotary_share(self) -> float:
        """The share of each head that is rotated."""
        return float(f"{self.whole('rope.dimension_count', self.head_dim) / max(self.head_dim, 1):.7g}")

    def _bad(self, key: str, value: Any, expected: str) -> ConfigError:
        return ConfigError(
            f"{self.name} gives {self.architecture}.{key} as {value!r}; expected is {expected}.",
            "Convert the model again, or fetch the file again.",
        )


class Kind(NamedTuple):
    """One architecture of llama.cpp: the reference's model type, the class of its causal model, its own values."""

    model_type: str
    causal: str
    values: Callable[[Facts], Values]


def config_values(files: Sequence[GGUFFile]) -> Values:
    """What `config.json` would hold."""
    facts = Facts(files)
    kind = kind_of(facts)
    ids = {name: files[0].get(f"tokenizer.ggml.{key}_token_id") for name, key in _TOKENS.items()}
    return {
        "model_type": kind.model_type,
        "architectures": [kind.causal],
        **kind.values(facts),
        "vocab_size": facts.rows("token_embd.weight") or facts.whole("vocab_size"),
        "tie_word_embeddings": facts.architecture in ALWAYS_TIED or not facts.holds("output.weight"),
        **ids,
    }


def kind_of(facts: Facts) -> Kind:
    """The row of the table for a file; UnsupportedError for an architecture that formers does not have."""
    name = facts.architecture
    if name == "llama" and facts.whole("expert_count", 0):
        return _MIXTRAL
    if name == "llama" and facts.has("attention.sliding_window"):
        return _MISTRAL
    if name not in _KINDS:
        raise UnsupportedError(
            f"{facts.name} holds a model of the architecture {name!r}, which formers does not read from GGUF.",
            f"Use the original model, or one of {', '.join(sorted(_KINDS))}.",
        )
    return _KINDS[name]


_TOKENS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
# llama.cpp writes a copy of their embeddings as `output`.
ALWAYS_TIED = ("bloom", "falcon", "gemma", "gemma2", "gemma3")


def _sizes(facts: Facts) -> Values:
    heads = facts.whole("attention.head_count")
    return {
        "hidden_size": facts.whole("embedding_length"),
        "intermediate_size": facts.whole("feed_forward_length"),
        "num_hidden_layers": facts.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": facts.whole("attention.head_count_kv", heads),
        "max_position_embeddings": facts.whole("context_length"),
    }


def _rotary(facts: Facts) -> Values:
    values: Values = {"rope_theta": facts.number("rope.freq_base", 10000.0)}
    scaling = facts.text("rope.scaling.type") or "none"
    original = facts.whole("rope.scaling.original_context_length", 0)
    if facts.holds("rope_freqs.weight"):
        values["rope_scaling"] = _llama3(facts, values["rope_theta"])
    elif facts.holds("rope_factors_long.weight"):
        values["rope_scaling"] = {
            "type": "longrope",
            "long_factor": facts.numbers("rope_factors_long.weight"),
            "short_factor": facts.numbers("rope_factors_short.weight"),
        }
        values["original_max_position_embeddings"] = original or facts.whole("context_length")
    elif scaling in ("linear", "yarn"):
        values["rope_scaling"] = {"rope_type": scaling, "factor": facts.number("rope.scaling.factor")}
        if scaling == "yarn":
            values["rope_scaling"]["original_max_position_embeddings"] = original or facts.whole("context_length")
    elif scaling != "none":
        raise UnsupportedError(f"{facts.name} scales its positions by {scaling!r}.", "Use the original model.")
    return values


def _llama3(facts: Facts, theta: float) -> Values:
    """Llama 3's scaling from the factors of all frequencies that llama.cpp writes instead of its four parameters."""
    given = facts.numbers("rope_freqs.weight")
    scaling = {
        "rope_type": "llama3",
        "factor": max(given, default=1.0),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    for index, factor in enumerate(given):
        turns = 8192 / (2 * math.pi * theta ** (index / len(given)))
        share = min(max((turns - 1.0) / 3.0, 0.0), 1.0)
        if not math.isclose(factor, 1 / ((1 - share) / scaling["factor"] + share), rel_tol=1e-3):
            raise UnsupportedError(
                f"{facts.name} scales its frequencies in a way that is not Llama 3's.", "Use the original model."
            )
    return scaling


def _llama(facts: Facts) -> Values:
    return {
        **_sizes(facts),
        **_rotary(facts),
        "head_dim": facts.head_dim,
        "rms_norm_eps": facts.number("attention.layer_norm_rms_epsilon"),
        "attention_bias": facts.holds("blk.0.attn_q.bias"),
        "mlp_bias": facts.holds("blk.0.ffn_down.bias"),
    }


def _mistral(facts: Facts) -> Values:
    values = {name: value for name, value in _llama(facts).items() if not name.endswith("_bias")}
    return {**values, "sliding_window": facts.whole("attention.sliding_window", 0) or None}


def _mixtral(facts: Facts) -> Values:
    return {
        **_mistral(facts),
        "num_local_experts": facts.whole("expert_count"),
        "num_experts_per_tok": facts.whole("expert_used_count"),
    }


def _qwen2(facts: Facts) -> Values:
    epsilon = facts.number("attention.layer_norm_rms_epsilon")
    return {**_sizes(facts), **_rotary(facts), "rms_norm_eps": epsilon, "use_sliding_window": False}


def _qwen3(facts: Facts) -> Values:
    return {**_qwen2(facts), "head_dim": facts.head_dim}


def _qwen3_moe(facts: Facts) -> Values:
    return {
        **_qwen3(facts),
        "num_experts": facts.whole("expert_count"),
        "num_experts_per_tok": facts.whole("expert_used_count"),
        "moe_intermediate_size": facts.whole("expert_feed_forward_length"),
        "intermediate_size": facts.whole("feed_forward_length", facts.whole("expert_feed_forward_length")),
        # llama.cpp's graph always does so.
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _smollm3(facts: Facts) -> Values:
    values = {name: value for name, value in _llama(facts).items() if name != "head_dim"}
    layers = values["num_hidden_layers"]
    return {**values, "no_rope_layers": [int((layer + 1) % 4 != 0) for layer in range(layers)]}


def _olmo2(facts: Facts) -> Values:
    return {**_sizes(facts), **_rotary(facts), "rms_norm_eps": facts.number("attention.layer_norm_rms_epsilon")}


def _phi3(facts: Facts) -> Values:
    return {
        **_sizes(facts),
        **_rotary(facts),
        "rms_norm_eps": facts.number("attention.layer_norm_rms_epsilon"),
        "sliding_window": facts.whole("attention.sliding_window", 0) or None,
        "partial_rotary_factor": facts.rotary_share,
    }


def _phi(facts: Facts) -> Values:
    return {
        **_sizes(facts),
        **_rotary(facts),
        "layer_norm_eps": facts.number("attention.layer_norm_epsilon"),
        "partial_rotary_factor": facts.rotary_share,
    }


def _gemma(facts: Facts) -> Values:
    return {
        **_sizes(facts),
        **_rotary(facts),
        "head_dim": facts.head_dim,
        "rms_norm_eps": facts.number("attention.layer_norm_rms_epsilon"),
    }


def _gemma2(facts: Facts) -> Values:
    return {
        **_gemma(facts),
        **_query_scale(facts, largest=46),
        "sliding_window": facts.whole("attention.sliding_window", 4096),
        "attn_logit_softcapping": facts.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": facts.number("final_logit_softcapping", 30.0),
    }


def _gemma3(facts: Facts) -> Values:
    return {
        **_gemma(facts),
        **_query_scale(facts, largest=62),
        "sliding_window": facts.whole("attention.sliding_window"),
        "sliding_window_pattern": facts.whole("attention.sliding_window_pattern", 6),
        "rope_local_base_freq": facts.number("rope.freq_base_swa", 10000.0),
    }


def _query_scale(facts: Facts, largest: int) -> Values:
    """The models of 27 B parameters, known by their layers, scale queries by another width than that of a head."""
    if facts.whole("block_count") != largest:
        return {"query_pre_attn_scalar": facts.head_dim}
    return {"query_pre_attn_scalar": facts.whole("embedding_length") // facts.whole("attention.head_count")}


def _gpt2(facts: Facts) -> Values:
    return {
        "n_embd": facts.whole("embedding_length"),
        "n_layer": facts.whole("block_count"),
        "n_head": facts.whole("attention.head_count"),
        "n_inner": facts.whole("feed_forward_length"),
        "n_positions": facts.whole("context_length"),
        "layer_norm_epsilon": facts.number("attention.layer_norm_epsilon"),
    }


def _gpt_neox(facts: Facts) -> Values:
    values = {name: value for name, value in _sizes(facts).items() if name != "num_key_value_heads"}
    return {
        **values,
        "rotary_emb_base": facts.number("rope.freq_base", 10000.0),
        "rotary_pct": facts.rotary_share,
        "layer_norm_eps": facts.number("attention.layer_norm_epsilon"),
        "use_parallel_residual": bool(facts.files[0].get("gptneox.use_parallel_residual", True)),
    }


def _bloom(facts: Facts) -> Values:
    return {
        "hidden_size": facts.whole("embedding_length"),
        "n_layer": facts.whole("block_count"),
        "n_head": facts.whole("attention.head_count"),
        "layer_norm_epsilon": facts.number("attention.layer_norm_epsilon"),
    }


def _falcon(facts: Facts) -> Values:
    sizes = _sizes(facts)
    return {
        "hidden_size": sizes["hidden_size"],
        "num_hidden_layers": sizes["num_hidden_layers"],
        "num_attention_heads": sizes["num_attention_heads"],
        "num_kv_heads": sizes["num_key_value_heads"],
        "ffn_hidden_size": sizes["intermediate_size"],
        "max_position_embeddings": sizes["max_position_embeddings"],
        "rope_theta": facts.number("rope.freq_base", 10000.0),
        "layer_norm_epsilon": facts.number("attention.layer_norm_epsilon"),
        "new_decoder_architecture": facts.holds("blk.0.attn_norm_2.weight"),
        "multi_query": sizes["num_key_value_heads"] == 1,
        "parallel_attn": True,
        "alibi": False,
        "bias": False,
    }


def _stablelm(facts: Facts) -> Values:
    return {
        **_sizes(facts),
        **_rotary(facts),
        "layer_norm_eps": facts.number("attention.layer_norm_epsilon"),
        "partial_rotary_factor": facts.rotary_share,
        "use_qkv_bias": facts.holds("blk.0.attn_q.bias"),
        "use_parallel_residual": not facts.holds("blk.0.ffn_norm.weight"),
        "qk_layernorm": facts.holds("blk.0.attn_q_norm.weight"),
    }


_MISTRAL = Kind("mistral", "MistralForCausalLM", _mistral)
_MIXTRAL = Kind("mixtral", "MixtralForCausalLM", _mixtral)
_KINDS = {
    "bloom": Kind("bloom", "BloomForCausalLM", _bloom),
    "falcon": Kind("falcon", "FalconForCausalLM", _falcon),
    "gemma": Kind("gemma", "GemmaForCausalLM", _gemma),
    "gemma2": Kind("gemma2", "Gemma2ForCausalLM", _gemma2),
    "gemma3": Kind("gemma3_text", "Gemma3ForCausalLM", _gemma3),
    "gpt2": Kind("gpt2", "GPT2LMHeadModel", _gpt2),
    "gptneox": Kind("gpt_neox", "GPTNeoXForCausalLM", _gpt_neox),
    "llama": Kind("llama", "LlamaForCausalLM", _llama),
    "olmo2": Kind("olmo2", "Olmo2ForCausalLM", _olmo2),
    "phi2": Kind("phi", "PhiForCausalLM", _phi),
    "phi3": Kind("phi3", "Phi3ForCausalLM", _phi3),
    "qwen2": Kind("qwen2", "Qwen2ForCausalLM", _qwen2),
    "qwen3": Kind("qwen3", "Qwen3ForCausalLM", _qwen3),
    "qwen3moe": Kind("qwen3_moe", "Qwen3MoeForCausalLM", _qwen3_moe),
    "smollm3": Kind("smollm3", "SmolLM3ForCausalLM", _smollm3),
    "stablelm": Kind("stablelm", "StableLmForCausalLM", _stablelm),
}
