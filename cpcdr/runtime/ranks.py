"""Agreement between the processes of a distributed training; one process agrees with itself."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cpcdr.runtime.errors import InputError

T = TypeVar("T")


def world_size() -> int:
    """Processes of the default group; 1 where there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of every rank's tensor, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def max_over_ranks(tensor: Tensor) -> Tensor:
    """The elementwise maximum of every rank's tensor, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def follow_rank_0(tensors: Iterable[Tensor]) -> None:
    """Give tensors of every rank the values of rank 0's, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def together(function: Callable[[], T]) -> T:
    """Call a function on every rank; an error on one rank is raised on all of them.

    Without this, the other ranks would wait in their next collective until it times out. The
    function itself must contain no collective.

    Raises:
        InputError: on all ranks, if some rank raised one: its sentence.
        RuntimeError: on the ranks without an error, if another rank raised any other exception.
    """
    error: Exception | None = None
    try:
        result = function()
    except Exception as caught:
        error = caught
    if world_size() > 1:
        _raise_the_others(error)
    if error is not None:
        raise error
    return result


def _raise_the_others(error: Exception | None) -> None:
    group = _host_group(dist.get_backend())
    failed = torch.tensor(int(error is not None), dtype=torch.int32)
    dist.all_reduce(failed, group=group)
    if not failed.item():
        return
    errors: list[Any] = [None] * world_size()
    own = (isinstance(error, InputError), f"{type(error).__name__}: {error}", str(error))
    dist.all_gather_object(errors, own if error is not None else None, group=group)
    failures = [(rank, *failure) for rank, failure in enumerate(errors) if failure is not None]
    for _, is_input, _, sentence in failures:
        if is_input and not isinstance(error, InputError):
            raise InputError(sentence) from error
    if error is None:
        raise RuntimeError(f"worker {failures[0][0]} failed: {failures[0][2]}")


@functools.cache
def _host_group(backend: str) -> Any:
    """A group for tensors in host memory, so that a flag never waits for a GPU's queue."""
    return None if backend == "gloo" else dist.new_group(backend="gloo")
