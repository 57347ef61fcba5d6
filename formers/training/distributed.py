"""Several processes that train one model: which of them this is, and what they tell each other.

`torchrun` and `accelerate launch` start them and say in the environment how many there are. Every process computes its
share of each step's batches; gradients are then added up over all of them, once a step, so that each takes the same
step. Because shares are weighed by the items of the whole step, that is the step of one process with all batches, also
where a process has fewer examples than another, or none.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

# Gradients travel in pieces of about this many MB.
_PIECE = 25


@dataclass(frozen=True)
class Place:
    """This process: its number among all, their number, and its number on this computer."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0


def place() -> Place:
    """Which process this is, from torch's process group or from the environment."""
    import torch.distributed as dist

    local = int(os.environ.get("LOCAL_RANK", 0))
    if dist.is_available() and dist.is_initialized():
        return Place(dist.get_rank(), dist.get_world_size(), local)
    if "MASTER_ADDR" not in os.environ:
        return Place()
    return Place(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), local)


def start(backend: str | None, seconds: float, cuda: bool) -> None:
    """Join the other processes, if there are any and this has not happened yet; `seconds`: the longest wait."""
    import torch
    import torch.distributed as dist

    if place().world_size == 1 or dist.is_initialized():
        return
    if cuda:
        torch.cuda.set_device(place().local_rank)
    dist.init_process_group(backend or ("nccl" if cuda else "gloo"), timeout=timedelta(seconds=seconds))
    atexit.register(_leave)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _several() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _device() -> Any:
    """Where the backend takes tensors."""
    import torch
    import torch.distributed as dist

    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def wait() -> None:
    """Wait until every process is here."""
    if _several():
        import torch.distributed as dist

        dist.barrier()


@contextmanager
def in_turn(first: bool) -> Iterator[None]:
    """The block runs where `first` is true before it runs in the other processes."""
    if not first:
        wait()
    try:
        yield
    finally:
        if first:
            wait()


def total(*values: float) -> list[float]:
    """The sum of each value over all processes."""
    if not _several():
        return list(values)
    import torch
    import torch.distributed as dist

    summed = torch.tensor(values, dtype=torch.float64, device=_device())
    dist.all_reduce(summed)
    return [float(value) for value in summed]


def gather(value: Any) -> list[Any]:
    """The value of each process, the first one's first."""
    if not _several():
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: Any) -> Any:
    """The first process's value."""
    if not _several():
        return value
    import torch.distributed as dist

    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def share_weights(model: nn.Module) -> None:
    """Give every process the first one's parameters and buffers."""
    if not _several():
        return
    import torch.distributed as dist

    for tensor in (*model.parameters(), *model.buffers()):
        own = tensor.data.to(_device()).contiguous()
        dist.broadcast(own, src=0)
        tensor.data.copy_(own)


def add_gradients(model: nn.Module, piece: float | None = None) -> None:
    """Make every gradient the sum of all processes' ones; where no process has one there is none afterwards.

    piece: the size in MB of what is sent at once.
    """
    if not _several():
        return
    import torch
    import torch.distributed as dist

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    has = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.uint8, device=_device())
    dist.all_reduce(has, op=dist.ReduceOp.MAX)
    gradients: list[Tensor] = []
    for parameter, known in zip(trained, has.tolist(), strict=True):
        if known:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.append(parameter.grad)
    sent = []
    for part in _pieces(gradients, int((piece or _PIECE) * 2**20)):
        flat = torch.cat([gradient.flatten() for gradient in part]).to(_device())
        sent.append((part, flat, dist.all_reduce(flat, async_op=True)))
    for part, flat, handle in sent:
        assert handle is not None
        handle.wait()
        for gradient, summed in zip(part, flat.split([g.numel() for g in part]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def _pieces(gradients: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Gradients of one type a piece, of about `size` bytes."""
    piece: list[Tensor] = []
    held = 0
    for gradient in gradients:
        if piece and (held >= size or gradient.dtype != piece[0].dtype):
            yield piece
            piece, held = [], 0
        piece.append(gradient)
        held += gradient.numel() * gradient.element_size()
    if piece:
        yield piece
