"""What a pre-training step costs a GPU, counted on tensors without values: no GPU is needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_SHAPES_ONLY = (
    *("view", "_unsafe_view", "expand", "permute", "slice", "select", "unbind", "split"),
    *("split_with_sizes", "detach", "alias", "t", "transpose", "unsqueeze", "squeeze"),
    *("as_strided", "_reshape_alias", "empty", "empty_strided", "new_empty", "new_empty_strided"),
    *("empty_like", "lift_fresh"),
)
"""Operations that move nothing."""

_KERNELS = {
    "nonzero_static": 4,
    "cumsum": 2,
    "native_batch_norm": 2,
    "native_batch_norm_backward": 2,
    "native_group_norm": 2,
    "native_group_norm_backward": 4,
    "convolution_backward": 2,
    # Of our own:
    "pyramid": 6,
    "visible": 8,
    "blur": 3,
    "similarity": 5,
    "first_round": 5,
    "round": 5,
    "assign": 4,
    "prototype_gradient": 8,
    "scatter_rows": 2,
    "unit_rows_gradient": 2,
}
"""Kernels of operations that launch more than one."""

_PRODUCTS = {
    "similarity": lambda high, _, prototypes: 3 * 2 * high.numel() * len(prototypes),
    "assign": lambda similarity, _, prototypes: 4 * similarity.numel() * prototypes.shape[1],
    "prototype_gradient": lambda similarity, high, _: 4 * similarity.numel() * high.shape[1],
}
"""Operations of our own products, in TF32 or in float16; one that is exact to float32 takes three
of the latter."""

_GATHERS = ("index", "index_select", "gather", "embedding_bag", "_embedding_bag")
"""Operations that read of their first tensor only what they return."""


@dataclass(frozen=True)
class Device:
    """A GPU, by what limits it; defaults are an H100's.

    Attributes:
        bandwidth: bytes a second.
        launch: seconds a kernel at least takes.
        half, tf32, single: operations a second of matrix products in bfloat16, in float32 rounded
            to TF32, and in float32.
    """

    bandwidth: float = 3.0e12
    launch: float = 5e-6
    half: float = 5e14
    tf32: float = 2.5e14
    single: float = 5e13


@dataclass
class Part:
    """Totals of a part of the step.

    Attributes:
        kernels: launched.
        bytes: read and written.
        seconds: predicted: each operation takes the longest of its launches, bytes and products.
    """

    kernels: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass
class Count(TorchDispatchMode):
    """Counts every operation inside, by part. Whatever would wait for a GPU raises instead."""

    device: Device = field(default_factory=Device)
    parts: dict[str, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.current = Part()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is counted here belongs to this part."""
        self.current = self.parts.setdefault(name, Part())
        with self:
            yield

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        with FlopCounterMode(display=False) as flops:
            result = function(*args, **(kwargs or {}))
        name = function._schema.name.split("::")[1]
        if function.namespace != "prim" and name not in _SHAPES_ONLY:
            inputs, outputs = _tensors((args, kwargs)), _tensors(result)
            moved = _bytes(name, inputs, outputs)
            kernels = _KERNELS.get(name, 1)
            part, products = self.current, flops.get_total_flops() / self._rate(outputs)
            if function.namespace == "cpcdr" and name in _PRODUCTS:
                rate = self.device.tf32 if name == "assign" else self.device.half
                products = _PRODUCTS[name](*inputs[:3]) / rate
            part.kernels += kernels
            part.bytes += moved
            part.seconds += max(
                kernels * self.device.launch, moved / self.device.bandwidth, products
            )
        return result

    def _rate(self, outputs: list[Tensor]) -> float:
        if any(tensor.dtype == torch.bfloat16 for tensor in outputs):
            return self.device.half
        allowed = torch.backends.cuda.matmul.allow_tf32
        return self.device.tf32 if allowed else self.device.single


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _bytes(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    written = sum(map(_touched, outputs))
    if name in _GATHERS:
        return 2 * written + sum(map(_touched, inputs[1:]))
    if name.startswith("new_") or name.endswith("_like"):
        return written
    if name == "copy_":
        inputs = inputs[1:]
    return written + sum(map(_touched, {id(t): t for t in inputs}.values()))


def _touched(tensor: Tensor) -> int:
    """Bytes that are there; what is expanded is read once."""
    elements = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= size if stride else 1
    return elements * tensor.element_size()
