"""`quantize=`: which weights of a model become integers when it is loaded, and how config.json says so.

Models that write text keep their matrices in blocks (`formers.hub.block_quantization`), which steps of generation read;
beside them lie the same numbers as float32, for prompts. Encoders compute with int8 (`formers.layers.int8`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from formers.configuration import PreTrainedConfig
from formers.errors import CheckpointError, InputError, UnsupportedError
from formers.hub.block_quantization import GROUP, KINDS, to_blocks
from formers.hub.gguf_blocks import Blocks
from formers.hub.gguf_types import TYPES
from formers.layers.block import Block
from formers.layers.causal import CausalBlock
from formers.layers.int8 import Int8Linear
from formers.layers.linear import Linear

if TYPE_CHECKING:
    from formers.models.base import PreTrainedModel

METHOD = "formers"
BITS = {"int8": 8, "int4": 4}
ROW = -1  # a group is a whole row


@dataclass(frozen=True)
class Quantization:
    """How many bits a weight has, and how many weights share a scale: 32, or a whole row (`ROW`)."""

    bits: int
    group: int

    def as_dict(self) -> dict[str, Any]:
        """The `quantization_config` of config.json."""
        return {"quant_method": METHOD, "bits": self.bits, "group_size": self.group}

    def kinds(self, model: PreTrainedModel) -> dict[str, int]:
        """The bits of the parameters that are kept in blocks, by name; the matrix of the vocabulary has 8."""
        if self.group == ROW:
            return {}
        ties = model.ties()
        found: dict[str, int] = {}
        output = model.get_output_embeddings()
        for outer, block in model.named_modules():
            for inner, module in block.named_modules() if isinstance(block, CausalBlock) else [("", block)]:
                inside = isinstance(block, CausalBlock) and module is not block
                if type(module) is Linear and (inside or module is output) and module.in_features % GROUP == 0:
                    name = ".".join(part for part in (outer, inner, "weight") if part)
                    found[ties.get(name, name)] = 8 if module is output else self.bits
        return {name: bits for name, bits in found.items() if model.get_parameter(name).shape[0] >= GROUP}


def wanted(quantize: str | None, config: PreTrainedConfig) -> int | None:
    """The bits that the caller or the checkpoint asks for; takes the checkpoint's word out of the configuration."""
    if quantize is not None and quantize not in BITS:
        raise InputError(f"quantize={quantize!r} is unknown.", f"Use one of {', '.join(BITS)}, or leave it out.")
    asked = None if quantize is None else BITS[quantize]
    stored = config.extra.get("quantization_config")
    if not isinstance(stored, Mapping) or stored.get("quant_method") != METHOD:
        return asked
    config.extra.pop("quantization_config")
    bits = stored.get("bits")
    if bits not in BITS.values() or stored.get("group_size") not in (GROUP, ROW):
        raise CheckpointError(
            f"config.json asks for {bits!r} bits in groups of {stored.get('group_size')!r}.",
            f"formers reads 8 or 4 bits in groups of {GROUP}, or 8 bits a row ({ROW}).",
        )
    if asked not in (None, bits):
        raise InputError(
            f"quantize={quantize!r} was asked for; the model is stored with {bits} bits.",
            "Leave quantize= out, or load the original.",
        )
    return 4 if bits == 4 else 8


def check_options(dtype: str | torch.dtype | None, device: torch.device, spread: bool) -> None:
    """Refuse what does not go together with quantize=."""
    if dtype not in (None, "auto") and str(dtype).removeprefix("torch.") != "float32":
        raise InputError(
            f"dtype={dtype!r} was given for a quantized model, which computes in float32.", "Leave dtype out."
        )
    if device.type != "cpu" or spread:
        raise InputError(
            "Quantized models run on the CPU, in one place.", 'Pass device_map="cpu" (or nothing), or no quantize=.'
        )


def prepare(model: PreTrainedModel, bits: int) -> Quantization:
    """Make a model on the meta device ready to be filled with `bits` bits."""
    kinds = {type(module) for module in model.modules() if isinstance(module, (Block, CausalBlock))}
    writes = any(issubclass(kind, CausalBlock) for kind in kinds)
    crossed = any(isinstance(module, CausalBlock) and module.cross is not None for module in model.modules())
    if not kinds or crossed or (writes and any(issubclass(kind, Block) for kind in kinds)):
        raise UnsupportedError(
            f"{type(model).__name__} cannot be quantized: encoders and decoders can, models of both cannot yet.",
            "Leave quantize= out.",
        )
    if writes:
        return Quantization(bits, GROUP)
    if bits != 8:
        raise InputError(
            f"{type(model).__name__} was to be loaded with {bits} bits, which serve models that write text.",
            'Use quantize="int8".',
        )
    for block in [module for module in model.modules() if isinstance(module, Block)]:
        for parent in list(block.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is Linear:
                    setattr(parent, name, Int8Linear.like(child))
    return Quantization(8, ROW)


def read_blocks(found: Tensor, bits: int, shape: torch.Size, name: str) -> tuple[Tensor, Blocks | None]:
    """A matrix of a checkpoint, which holds floats or blocks, as float32 and in blocks.

    Of another shape than the model's it stays what it is.
    """
    if found.dtype is torch.uint8:
        blocks = Blocks(KINDS[bits], found.contiguous())
        if found.dim() != 2 or found.shape[1] % TYPES[blocks.kind][2]:
            raise CheckpointError(
                f"{name!r} of shape {tuple(found.shape)} is no matrix in blocks of {bits} bits.", "Save it again."
            )
    elif found.shape == shape:
        blocks = to_blocks(found, bits, repr(name))
    else:
        return found, None
    return blocks.floats(), blocks


def stored(model: PreTrainedModel) -> dict[str, Tensor]:
    """The bytes of the blocks of parameters, by name: those read, or new ones where the values have changed."""
    found: dict[str, Tensor] = {}
    for name, bits in ({} if model.quantization is None else model.quantization.kinds(model)).items():
        parameter, held = model.get_parameter(name), model.blocks.get(name)
        # By value: preparing for inference moves parameters.
        if held is None or not torch.equal(held.blocks.floats(), parameter):
            found[name] = to_blocks(parameter, bits, repr(name)).data
        else:
            found[name] = held.blocks.data
    return found


def absent(key: str) -> CheckpointError:
    """What a checkpoint lacks, or has in another shape, cannot be quantized."""
    return CheckpointError(
        f"The checkpoint has no fitting {key!r}, which was to be quantized.", "Leave quantize= out, and train it."
    )


def check_move(apply: Callable[[Tensor], Tensor]) -> None:
    """Refuse to bring a quantized model to another type or device."""
    probe = apply(torch.empty(0))
    if probe.dtype is not torch.float32 or probe.device.type != "cpu":
        raise refused(f"be brought to {str(probe.dtype).removeprefix('torch.')} on {probe.device}")


def refused(what: str) -> InputError:
    """What cannot be done to a quantized model."""
    return InputError(f"A quantized model cannot {what}.", "Load it without quantize=, from the original weights.")
