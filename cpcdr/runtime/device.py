"""Devices, and keeping a GPU busy: no synchronisation, few large kernels.

A copy from pageable memory waits for all work queued on the GPU: a handful of them in each training
step, and the GPU idles while the host catches up.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def default_device() -> torch.device:
    """The first GPU that this process sees, or the CPU where there is none."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def to_unit_float(images: Tensor) -> Tensor:
    """Images uint8 [..., H, W, 3] as networks take them.

    Returns:
        float32 [..., 3, H, W] in 0..1, on the same device.
    """
    return images.movedim(-1, -3).float() / 255


def move(values: Tensor, device: torch.device | str) -> Tensor:
    """The same values on another device; copies to a GPU are asynchronous."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def constant(like: Tensor, *values: float) -> Tensor:
    """A few numbers as a vector, made on the device (``new_tensor`` makes them on the host)."""
    return torch.stack([like.new_full((), value) for value in values])


def compiled(function: F, wanted: bool = True) -> F:
    """A function of tensors as one graph for each shape of its arguments, compiled when called;
    where that is not ``wanted``, as it is."""
    graph: F = _compiled(function) if wanted else function
    return graph


@functools.cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, fullgraph=True, dynamic=False)
