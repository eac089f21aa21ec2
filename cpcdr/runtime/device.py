"""Devices, and keeping a GPU busy: no synchronisation, few large kernels.

A copy from pageable memory waits for all work queued on the GPU: a handful of them in each training
step, and the GPU idles while the host catches up.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])

_TRITON = find_spec("triton") is not None  # known once: torch.compile before 2.12 cannot ask
_PIXELS = 2**21
"""Of one pass on a GPU without gradients: a gigabyte or two of features."""


def default_device() -> torch.device:
    """The first GPU that this process sees, or the CPU where there is none."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def runs_triton(device: torch.device) -> bool:
    """Whether kernels of ours run there: on a GPU where Triton is, which torch for Linux brings.

    Tensors of the device ``meta``, which have no values, stand for a GPU's.
    """
    return device.type in ("cuda", "meta") and _TRITON


def half_on_gpu(device: torch.device) -> torch.autocast:
    """Half precision where it is fast, for passes without gradients; on a CPU nothing changes."""
    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")


def images_at_once(device: torch.device, size: Sequence[int]) -> int:
    """How many images (H, W) a pass without gradients takes: a CPU's cache wants one."""
    return max(1, min(8, _PIXELS // (size[0] * size[1]))) if device.type == "cuda" else 1


def to_unit_float(images: Tensor) -> Tensor:
    """Images uint8 [..., H, W, 3] as networks take them.

    Returns:
        float32 [..., 3, H, W] in 0..1, on the same device.
    """
    return images.movedim(-1, -3).float() / 255


def pixels_on(device: torch.device, images: NDArray[np.uint8]) -> Tensor:
    """Images uint8 [N, H, W, 3] of the host on a device, as `to_unit_float` makes them."""
    return to_unit_float(torch.from_numpy(np.ascontiguousarray(images)).to(device))


def move(values: Tensor, device: torch.device | str) -> Tensor:
    """The same values on another device; copies to a GPU are asynchronous."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def move_together(values: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """As `move`, of many small tensors; to a GPU they travel in one copy."""
    if torch.device(device).type != "cuda":
        return [tensor.to(device) for tensor in values]
    buffer = pack(values).pin_memory().to(device, non_blocking=True)
    return unpack(buffer, values)


def pack(values: Sequence[Tensor]) -> Tensor:
    """Bytes of tensors in host memory, one after the other from multiples of 16: uint8."""
    ends = _ends(values)
    buffer = torch.empty(ends[-1], dtype=torch.uint8)
    for tensor, end in zip(values, ends[1:], strict=True):
        flat = tensor.contiguous().reshape(-1).view(torch.uint8)
        start = end - _padded(len(flat))
        buffer[start : start + len(flat)] = flat
    return buffer


def unpack(buffer: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of a buffer of `pack` with the types and shapes of ``like``."""
    starts = _ends(like)
    return [
        buffer[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for start, tensor in zip(starts, like, strict=False)
    ]


def _ends(values: Sequence[Tensor]) -> list[int]:
    return [0, *itertools.accumulate(_padded(tensor.nbytes) for tensor in values)]


def _padded(size: int) -> int:
    return -(-size // 16) * 16


def constant(like: Tensor, *values: float) -> Tensor:
    """A few numbers as a vector, made on the device (``new_tensor`` makes them on the host)."""
    return torch.stack([like.new_full((), value) for value in values])


@contextmanager
def tf32() -> Iterator[None]:
    """Products of float32 matrices may be rounded to 10 bits of mantissa on a GPU, which is eight
    times faster there. The CPU and other processes are not affected."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def compiled(function: F, wanted: bool = True) -> F:
    """A function of tensors as one graph for each shape of its arguments, compiled when called;
    where that is not ``wanted``, as it is."""
    graph: F = _compiled(function) if wanted else function
    return graph


@functools.cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, fullgraph=True, dynamic=False)
