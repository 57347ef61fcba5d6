"""The weights of a GGUF file under the names of the reference's checkpoints, and in their layout.

llama.cpp's converter renames every tensor and changes some: it reorders the rows of Llama's queries and keys, adds one
to Gemma's norms, separates the heads of fused projections, transposes GPT-2's matrices. All of it is undone here, one
tensor at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from formers.errors import CheckpointError
from formers.hub.gguf import GGUFFile
from formers.hub.gguf_blocks import PARTS, Blocks
from formers.hub.gguf_config import ALWAYS_TIED, Facts, kind_of
from formers.hub.gguf_types import TYPES

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Undo = Callable[["Tensor", Facts], "Tensor"]

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True)
class Naming:
    """names: where tensors without ".weight" or ".bias" are in checkpoints; a further "{}" there numbers the shares
    of the tensor's first dimension. undo: what the converter did to a tensor, undone. transposed: (in, out) matrices.
    instead: other names, where there is a tensor of that name.
    """

    names: Mapping[str, str]
    undo: Mapping[str, Undo] = field(default_factory=dict)
    transposed: Sequence[str] = ()
    instead: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class _Entry(NamedTuple):
    """Where one weight is: a tensor of a file, or with a `part` one item of its first dimension."""

    file: GGUFFile
    name: str
    part: int | None
    undo: Undo | None
    transposed: bool


class GGUFWeights:
    """A read-only view of the weights, as `formers.hub.weights.Weights` has it."""

    def __init__(self, files: Sequence[GGUFFile]) -> None:
        self._facts = Facts(files)
        naming = _NAMINGS[kind_of(self._facts).model_type]
        names = dict(naming.names)
        for tensor, others in naming.instead.items():
            names.update(others if self._facts.holds(tensor) else {})
        naming = replace(naming, names=names)
        self._entries: dict[str, _Entry] = {}
        for file in files:
            for name in file.tensors:
                self._place(file, name, naming)

    def _place(self, file: GGUFFile, name: str, naming: Naming) -> None:
        stem, dot, suffix = name.rpartition(".")
        numbers = _NUMBER.findall(stem)
        stem = _NUMBER.sub("{}", stem)
        if stem in _COMPUTED or (stem == "output" and self._facts.architecture in ALWAYS_TIED):
            return
        target = naming.names.get(stem)
        undo, transposed = naming.undo.get(stem), stem in naming.transposed and suffix == "weight"
        if target is None:
            self._entries[name] = _Entry(file, name, None, None, False)  # reported as unexpected, by its own name
            return
        split = target.count("{}") > len(numbers)
        for part in range(file.tensors[name].shape[0]) if split else (None,):
            key = target.format(*numbers, part) + dot + suffix
            if key in self._entries:
                raise CheckpointError(f"{file.path} has two tensors for {key!r}.", "Fetch the file again.")
            self._entries[key] = _Entry(file, name, part, undo, transposed)

    def keys(self) -> list[str]:
        """The names of all weights."""
        return list(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one weight."""
        entry = self._entries[key]
        shape = entry.file.tensors[entry.name].shape
        if entry.transposed:
            return shape[::-1]
        return shape if entry.part is None else shape[1:]

    def dtype(self, key: str) -> torch.dtype:
        """The data type of one weight; float32 for quantized ones."""
        from formers.hub.gguf_types import dtype_of

        entry = self._entries[key]
        return dtype_of(entry.file.tensors[entry.name].kind)

    def tensor(self, key: str) -> Tensor:
        """One weight, computed at each call."""
        entry = self._entries[key]
        tensor = self._undone(entry, entry.file.tensor(entry.name, entry.part))
        return tensor.t() if entry.transposed else tensor

    def blocks(self, key: str) -> Blocks | None:
        """The blocks that a quantized matrix is stored in; None for what is no such matrix, or more than reordered."""
        entry = self._entries[key]
        kind = entry.file.tensors[entry.name].kind
        if entry.transposed or entry.undo is _less_one or TYPES[kind][0] not in PARTS:
            return None
        data = entry.file.data(entry.name, entry.part)
        return None if data.dim() != 2 else Blocks(kind, self._undone(entry, data))

    def _undone(self, entry: _Entry, tensor: Tensor) -> Tensor:
        if entry.undo is None:
            return tensor
        try:
            return entry.undo(tensor, self._facts).contiguous()
        except RuntimeError as error:
            raise CheckpointError(
                f"The tensor {entry.name!r} of {entry.file.path}, of shape {tuple(tensor.shape)}, does not fit the "
                f"heads that its metadata give: {error}",
                "Fetch or convert the file again.",
            ) from error


# What the reference computes itself, from the configuration.
_COMPUTED = ("rope_freqs", "rope_factors_long", "rope_factors_short", "blk.{}.attn_rot_embd")


def _rotated(key: str) -> Undo:
    """Rows of each head in pairs (llama.cpp's rotation) back to halves (the reference's)."""

    def undo(tensor: Tensor, facts: Facts) -> Tensor:
        heads = facts.whole(key, facts.whole("attention.head_count"))
        return tensor.view(heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)

    return undo


def _less_one(tensor: Tensor, facts: Facts) -> Tensor:
    return tensor - 1


def _by_head(tensor: Tensor, facts: Facts) -> Tensor:
    """All queries, all keys, all values back to the three of each head."""
    heads = facts.whole("attention.head_count")
    return tensor.view(3, heads, -1, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)


def _by_group(tensor: Tensor, facts: Facts) -> Tensor:
    """All queries, all keys, all values back to groups: the queries that share a key, the key, the value."""
    import torch

    heads, groups = facts.whole("attention.head_count"), facts.whole("attention.head_count_kv", 1)
    width = facts.head_dim
    query, key, value = tensor.split([heads * width, groups * width, groups * width])
    parts = [part.view(groups, -1, *tensor.shape[1:]) for part in (query, key, value)]
    return torch.cat(parts, 1).reshape(tensor.shape)


def _layers(prefix: str, names: Mapping[str, str]) -> dict[str, str]:
    return {f"blk.{{}}.{name}": f"{prefix}.{{}}.{target}" for name, target in names.items()}


_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GATED = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_AROUND = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_ROTATED = {
    "blk.{}.attn_q": _rotated("attention.head_count"),
    "blk.{}.attn_k": _rotated("attention.head_count_kv"),
}
_FUSED = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attention.query_key_value",
    "attn_output": "self_attention.dense",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}


def _llama_like(*tables: Mapping[str, str]) -> dict[str, str]:
    together: dict[str, str] = {}
    for table in tables:
        together.update(table)
    return {**_OUTSIDE, **_layers("model.layers", together)}


def _offset(names: Mapping[str, str]) -> dict[str, Undo]:
    return {name: _less_one for name in names if name.endswith("norm")}


def _experts(place: str, gate: str, up: str, down: str) -> dict[str, str]:
    """All experts in one tensor, or in one each, as older files have them."""
    names = {"ffn_gate_inp": f"{place}.gate"}
    for stem, name in (("ffn_gate", gate), ("ffn_up", up), ("ffn_down", down)):
        names[f"{stem}_exps"] = names[f"{stem}.{{}}"] = f"{place}.experts.{{}}.{name}"
    return names


_LLAMA = Naming(_llama_like(_ATTENTION, _GATED, _NORMS), _ROTATED)
_GEMMA = _llama_like(_ATTENTION, _GATED, _NORMS)
_GEMMA2 = _llama_like(_ATTENTION, _GATED, _AROUND)
_GEMMA3 = _llama_like(_ATTENTION, _QK_NORMS, _GATED, _AROUND)
_NAMINGS = {
    "bloom": Naming(
        {
            "token_embd": "transformer.word_embeddings",
            "token_embd_norm": "transformer.word_embeddings_layernorm",
            "output_norm": "transformer.ln_f",
            **_layers("transformer.h", _FUSED),
        },
        {"blk.{}.attn_qkv": _by_head},
    ),
    "falcon": Naming(
        {
            "token_embd": "transformer.word_embeddings",
            "output_norm": "transformer.ln_f",
            **_layers("transformer.h", _FUSED),
        },
        {"blk.{}.attn_qkv": _by_group},
        instead={
            "blk.0.attn_norm_2.weight": _layers("transformer.h", {"attn_norm": "ln_mlp", "attn_norm_2": "ln_attn"})
        },
    ),
    "gemma": Naming(_GEMMA, _offset(_GEMMA)),
    "gemma2": Naming(_GEMMA2, _offset(_GEMMA2)),
    "gemma3_text": Naming(_GEMMA3, _offset(_GEMMA3)),
    "gpt2": Naming(
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
            **_layers(
                "transformer.h",
                {
                    "attn_norm": "ln_1",
                    "attn_qkv": "attn.c_attn",
                    "attn_output": "attn.c_proj",
                    "ffn_norm": "ln_2",
                    "ffn_up": "mlp.c_fc",
                    "ffn_down": "mlp.c_proj",
                },
            ),
        },
        transposed=("blk.{}.attn_qkv", "blk.{}.attn_output", "blk.{}.ffn_up", "blk.{}.ffn_down"),
    ),
    "gpt_neox": Naming(
        {
            "token_embd": "gpt_neox.embed_in",
            "output_norm": "gpt_neox.final_layer_norm",
            "output": "embed_out",
            **_layers(
                "gpt_neox.layers",
                {
                    **_FUSED,
                    "attn_qkv": "attention.query_key_value",
                    "attn_output": "attention.dense",
                },
            ),
        },
        {"blk.{}.attn_qkv": _by_head},
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": Naming(_llama_like(_ATTENTION, _experts("block_sparse_moe", "w1", "w3", "w2"), _NORMS), _ROTATED),
    "olmo2": Naming(
        _llama_like(
            _ATTENTION,
            _QK_NORMS,
            _GATED,
            {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"},
        )
    ),
    "phi": Naming(
        {
            **_llama_like(
                {**_ATTENTION, "attn_output": "self_attn.dense"},
                {"ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2", "attn_norm": "input_layernorm"},
            ),
            "output_norm": "model.final_layernorm",
        }
    ),
    "phi3": Naming(
        _llama_like(
            {"attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj"},
            {"ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"},
            _NORMS,
        )
    ),
    "qwen2": Naming(_llama_like(_ATTENTION, _GATED, _NORMS)),
    "qwen3": Naming(_llama_like(_ATTENTION, _QK_NORMS, _GATED, _NORMS)),
    "qwen3_moe": Naming(
        _llama_like(_ATTENTION, _QK_NORMS, _experts("mlp", "gate_proj", "up_proj", "down_proj"), _NORMS)
    ),
    "smollm3": _LLAMA,
    "stablelm": Naming(
        _llama_like(
            _ATTENTION,
            _GATED,
            _NORMS,
            {
                "attn_q_norm": "self_attn.q_layernorm.norms.{}",
                "attn_k_norm": "self_attn.k_layernorm.norms.{}",
            },
        )
    ),
}
