"""GGUF files of tiny models, made as llama.cpp's converter makes them: names from the package gguf's own table."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WIDE = {**SIZES, "head_dim": 16}
MOE = {"num_experts_per_tok": 2}
# llama.cpp's name, and values of the reference's configuration.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("bloom", {"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0}),
    "falcon": ("falcon", {**SIZES, "num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": 64}),
    "falcon-7b": ("falcon", {**SIZES, "multi_query": True, "parallel_attn": True, "ffn_hidden_size": 64}),
    "gemma": ("gemma", WIDE),
    "gemma2": ("gemma2", {**WIDE, "query_pre_attn_scalar": 16, "sliding_window": 8}),
    "gemma3_text": ("gemma3", {**WIDE, "query_pre_attn_scalar": 16, "sliding_window": 8, "num_hidden_layers": 7}),
    "gpt2": (
        "gpt2",
        {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 64},
    ),
    "gpt_neox": ("gptneox", {**SIZES, "rotary_pct": 0.5, "use_parallel_residual": True}),
    "llama": ("llama", SIZES),
    "llama-biased": ("llama", {**WIDE, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "mistral": ("llama", {**SIZES, "sliding_window": 8}),
    "mixtral": ("llama", {**SIZES, **MOE, "num_local_experts": 4, "sliding_window": None}),
    "olmo2": ("olmo2", SIZES),
    "phi": ("phi2", {**SIZES, "partial_rotary_factor": 0.5, "num_key_value_heads": 4}),
    "phi3": ("phi3", {**SIZES, "sliding_window": 8}),
    "qwen2": ("qwen2", SIZES),
    "qwen3": ("qwen3", WIDE),
    "qwen3_moe": ("qwen3moe", {**WIDE, **MOE, "num_experts": 4, "moe_intermediate_size": 16, "norm_topk_prob": True}),
    "smollm3": ("smollm3", {**SIZES, "num_hidden_layers": 5}),
    "stablelm": ("stablelm", {**SIZES, "partial_rotary_factor": 0.5, "use_qkv_bias": True}),
    "stablelm-12b": (
        "stablelm",
        {**SIZES, "partial_rotary_factor": 0.5, "qk_layernorm": True, "use_parallel_residual": True},
    ),
}


def tiny(case: str) -> transformers.PreTrainedModel:
    """A model of the reference with random weights, norms and biases included."""
    config = transformers.AutoConfig.for_model(case.partition("-")[0], **MODELS[case][1])
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def file_tensors(model: transformers.PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """The model's weights as its safetensors file has them."""
    from safetensors.torch import load_file

    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def write(
    path: Path,
    case: str,
    config: Any,
    tensors: dict[str, torch.Tensor],
    *,
    quantization: gguf.GGMLQuantizationType | None = None,
    extra: Callable[[gguf.GGUFWriter], None] | None = None,
) -> Path:
    """Write a model. Matrices are stored in the `quantization` where its blocks fit."""
    architecture = MODELS[case][0]
    writer = gguf.GGUFWriter(path, architecture)
    _metadata(writer, architecture, config, tensors)
    layers = config.num_hidden_layers
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, layers)
    for key, values in _stacked(tensors).items():
        stem, _, suffix = key.rpartition(".")
        name = names.get_name(stem.removeprefix("transformer.") if architecture == "bloom" else stem)
        assert name is not None, key
        array = _converted(case, name, values.float(), config).contiguous().numpy()
        if quantization is not None and array.ndim == 2 and array.shape[1] % 32 == 0:
            data = gguf.quants.quantize(array, quantization)
            writer.add_tensor(f"{name}.{suffix}", data, raw_dtype=quantization)
        else:
            writer.add_tensor(f"{name}.{suffix}", array)
    if extra is not None:
        extra(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _metadata(writer: gguf.GGUFWriter, architecture: str, config: Any, tensors: dict[str, torch.Tensor]) -> None:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 64))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "ffn_hidden_size", None) or inner or 4 * config.hidden_size)
    writer.add_head_count(heads)
    if architecture == "falcon":
        groups = config.num_kv_heads if config.new_decoder_architecture else 1
    writer.add_head_count_kv(groups)
    if architecture in ("llama", "gemma", "gemma2", "gemma3", "qwen3", "qwen3moe"):
        writer.add_key_length(width)
    epsilons = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")
    epsilon = next(getattr(config, name) for name in epsilons if hasattr(config, name))
    add = writer.add_layer_norm_rms_eps if hasattr(config, "rms_norm_eps") else writer.add_layer_norm_eps
    add(epsilon)
    rope = getattr(config, "rope_parameters", None)
    if rope:
        rope = rope.get("full_attention", rope)
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_rope_dimension_count(int(width * rope.get("partial_rotary_factor", 1.0)))
    if getattr(config, "sliding_window", None) and architecture != "qwen2":
        writer.add_sliding_window(config.sliding_window)
    if architecture == "gptneox":
        writer.add_parallel_residual(config.use_parallel_residual)
    if hasattr(config, "num_experts_per_tok"):
        writer.add_expert_count(getattr(config, "num_local_experts", None) or config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if hasattr(config, "moe_intermediate_size"):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    for name in ("bos", "eos", "pad"):
        value = getattr(config, f"{name}_token_id")
        if value is not None:
            getattr(writer, f"add_{name}_token_id")(value)


def _stacked(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Experts and per-head norms in one tensor each."""
    parts: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"(.+\.(?:experts|norms))\.(\d+)\.(.+)", key)
        if match is None:
            parts[key] = [(-1, tensor)]
        else:
            stem = match[1] if match[1].endswith("experts") else match[1].removesuffix(".norms")
            parts.setdefault(f"{stem}.{match[3]}", []).append((int(match[2]), tensor))
    return {
        key: items[0][1]
        if items[0][0] < 0
        else torch.stack([tensor for _, tensor in sorted(items, key=lambda i: i[0])])
        for key, items in parts.items()
    }


def _converted(case: str, name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
    """What llama.cpp's converter does to the values."""
    architecture = MODELS[case][0]
    heads = config.num_attention_heads
    leaf = name.rpartition(".")[2]
    if architecture in ("llama", "smollm3") and leaf in ("attn_q", "attn_k"):
        count = heads if leaf == "attn_q" else config.num_key_value_heads
        return (
            tensor.reshape(count, 2, len(tensor) // count // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
        )
    if architecture in ("gemma", "gemma2", "gemma3") and name.endswith("norm"):
        return tensor + 1
    if architecture == "gpt2" and tensor.dim() == 2 and leaf in ("attn_qkv", "attn_output", "ffn_up", "ffn_down"):
        return tensor.T
    if architecture in ("bloom", "gptneox") and leaf == "attn_qkv":
        split = tensor.reshape(heads, 3, -1, *tensor.shape[1:])
        return torch.cat([split[:, part].flatten(0, 1) for part in range(3)])
    if architecture == "falcon" and leaf == "attn_qkv":
        groups = config.num_kv_heads if config.new_decoder_architecture else 1
        split = tensor.reshape(groups, heads // groups + 2, -1, tensor.shape[1])
        return torch.cat([part.reshape(-1, tensor.shape[1]) for part in (split[:, :-2], split[:, -2], split[:, -1])])
    return tensor


def random_blocks(kind: int, rows: int, blocks: int) -> np.ndarray:
    """Bytes of a ggml type in which every number is finite."""
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)][1]
    return np.random.default_rng(kind).integers(0, 64, (rows, blocks * size), dtype=np.uint8)
