"""The processes that ``torchrun`` starts together: the number of this process, and how all give their work to the first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

Value = TypeVar("Value")

_alone: list[bool] = []


def rank() -> int:
    """The number of this process among those started together, 0 for the first or only one."""
    return int(os.environ.get("RANK", 0)) if world() > 1 else 0


def world() -> int:
    """How many processes were started together; 1 without torchrun."""
    if _alone or "TORCHELASTIC_RUN_ID" not in os.environ:
        return 1
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def alone() -> Iterator[None]:
    """Work inside the block without the other processes."""
    _alone.append(True)
    try:
        yield
    finally:
        _alone.pop()


def device(asked: str) -> str:
    """The device of this process: "auto" becomes its own GPU where torchrun gave each process a GPU."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if asked == "auto" and world() > 1 and local and torch.cuda.is_available() else asked


def gather(value: Any) -> list[Any] | None:
    """The value of each process, by rank, at the first process; None at the others.

    Every process must call it the same number of times in the same order.
    """
    if world() == 1:
        return [value]
    dist = _group()
    everything: list[Any] | None = [None] * world() if rank() == 0 else None
    dist.gather_object(value, everything)
    return everything


def broadcast(value: Value) -> Value:
    """The value of the first process, at every process."""
    if world() == 1:
        return value
    box = [value]
    _group().broadcast_object_list(box)
    return box[0]


def _group() -> Any:
    import torch.distributed as dist

    if not dist.is_initialized():
        # The first process clusters while the others wait, which may take long.
        dist.init_process_group("gloo", timeout=timedelta(days=7))
    return dist


def leave() -> None:
    """Leave the group of processes, where there is one."""
    if world() > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
