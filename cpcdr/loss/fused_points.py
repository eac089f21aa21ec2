"""What the loss does by points on a GPU, a Triton kernel for each.

`candidates`, `taps` and `unit_rows` of `cpcdr.loss.correspondences`, and `cpcdr.loss.scatter`.
"""

# The arguments of what stands for an operation on the device ``meta`` are the operation's.
# mypy: disable-error-code="no-untyped-def, no-any-return"

from __future__ import annotations

import torch
import triton
from torch import Tensor

from cpcdr.loss import point_kernels


@torch.library.custom_op("cpcdr::candidates", mutates_args=())
def candidates_op(
    image: Tensor,
    xy: Tensor,
    regions: Tensor,
    appearances: Tensor,
    transforms: Tensor,
    image_of: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `cpcdr.loss.correspondences.candidates`."""
    count, known, (height, width) = len(image), image_of.shape[1], regions.shape[-2:]
    visible = regions.new_empty(count, known, dtype=torch.bool)
    images, there = (
        torch.empty_like(visible, dtype=torch.int64),
        transforms.new_empty(count, known, 2),
    )
    padded = triton.next_power_of_2(known)
    points = max(1, 512 // padded)
    if count:
        point_kernels.candidates_kernel[(triton.cdiv(count, points),)](
            *(image.contiguous(), xy.contiguous(), regions.contiguous()),
            *(appearances.contiguous(), transforms.contiguous(), image_of.contiguous()),
            *(visible, images, there, count, known, height, width),
            POINTS=points,
            APPEARANCES=padded,
            enable_fp_fusion=False,
        )
    return visible, images, there


@candidates_op.register_fake
def _(image, xy, regions, appearances, transforms, image_of):
    shape = (len(image), image_of.shape[1])
    visible = regions.new_empty(shape, dtype=torch.bool)
    return visible, regions.new_empty(shape), transforms.new_empty(*shape, 2)


@torch.library.custom_op("cpcdr::taps", mutates_args=())
def taps_op(image: Tensor, xy: Tensor, cells: list[int], size: list[int]) -> tuple[Tensor, Tensor]:
    """See `cpcdr.loss.correspondences.taps`."""
    (h, w), (height, width), count = cells, size, len(image)
    rows, weight = image.new_empty(count, 4), xy.new_empty(count, 4)
    if count:
        point_kernels.taps_kernel[(triton.cdiv(count, 256),)](
            *(image.contiguous(), xy.contiguous(), rows, weight),
            *(count, h, w, h / height, w / width),
            POINTS=256,
            enable_fp_fusion=False,
        )
    return rows, weight


@taps_op.register_fake
def _(image, xy, cells, size):
    return image.new_empty(len(image), 4), xy.new_empty(len(image), 4)


@torch.library.custom_op("cpcdr::scatter_rows", mutates_args=())
def scatter_op(values: Tensor, rows: Tensor, weight: Tensor, count: int) -> Tensor:
    """See `cpcdr.loss.scatter.scatter_rows`; float32."""
    table = values.new_zeros(count, values.shape[1])
    point_kernels.scatter_kernel[_programs(values)](
        *(values.contiguous(), rows.contiguous(), weight.contiguous(), table),
        *values.shape,
        TAPS=rows.shape[1],
        **_tile(values),
    )
    return table


@scatter_op.register_fake
def _(values, rows, weight, count):
    return values.new_empty(count, values.shape[1])


@torch.library.custom_op("cpcdr::unit_rows", mutates_args=())
def unit_rows_op(table: Tensor, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """See `cpcdr.loss.correspondences.unit_rows`."""
    unit = weight.new_empty(len(rows), table.shape[1])
    norm = weight.new_empty(len(rows), 1)
    point_kernels.unit_rows_kernel[_programs(unit)](
        *(table.contiguous(), rows.contiguous(), weight.contiguous(), unit, norm),
        *unit.shape,
        TAPS=rows.shape[1],
        **_tile(unit),
    )
    return unit, norm


@unit_rows_op.register_fake
def _(table, rows, weight):
    return weight.new_empty(len(rows), table.shape[1]), weight.new_empty(len(rows), 1)


@torch.library.custom_op("cpcdr::unit_rows_gradient", mutates_args=())
def unit_rows_gradient_op(
    gradient: Tensor, unit: Tensor, norm: Tensor, rows: Tensor, weight: Tensor, count: int
) -> Tensor:
    """See `cpcdr.loss.correspondences.unit_rows_gradient`."""
    table = unit.new_zeros(count, unit.shape[1])
    point_kernels.unit_rows_gradient_kernel[_programs(unit)](
        *(gradient.contiguous(), unit, norm, rows.contiguous(), weight.contiguous(), table),
        *unit.shape,
        TAPS=rows.shape[1],
        **_tile(unit),
    )
    return table


@unit_rows_gradient_op.register_fake
def _(gradient, unit, norm, rows, weight, count):
    return unit.new_empty(count, unit.shape[1])


@torch.library.custom_op("cpcdr::scaled_difference", mutates_args=())
def scaled_difference_op(values: Tensor, means: Tensor, of: Tensor, scale: Tensor) -> Tensor:
    """See `cpcdr.loss.scatter.scaled_difference`."""
    result = torch.empty_like(values)
    point_kernels.difference_kernel[_programs(values)](
        *(values, means.contiguous(), of.contiguous(), scale.contiguous(), result),
        *values.shape,
        **_tile(values),
    )
    return result


@scaled_difference_op.register_fake
def _(values, means, of, scale):
    return torch.empty_like(values)


def _tile(samples: Tensor) -> dict[str, int]:
    """What a program holds of samples [S, C]."""
    channels = triton.next_power_of_2(samples.shape[1])
    return {"SAMPLES": max(1, 2048 // channels), "CHANNELS": channels}


def _programs(samples: Tensor) -> tuple[int]:
    """How many take samples [S, C]; none would be an error of launching."""
    return (max(1, triton.cdiv(len(samples), _tile(samples)["SAMPLES"])),)
