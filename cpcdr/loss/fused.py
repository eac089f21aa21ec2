"""The assignment on a GPU: `cpcdr.loss.assignment.assign` by Triton kernels.

Similarities are written once, and each round of Sinkhorn, the sums for the loss and the prototypes'
gradient each read them once, where exponentials, sums and products by PyTorch read and write them
two dozen times. (Making them again in each pass instead of reading them would cost a product that
takes longer than the memory.) Sums over samples are made in a fixed order: equal inputs give equal
results.

They are written as float32, and in 16 bits from the epsilon `WIDE` on: their error of 1.5e-5 is at
most 1e-3 of a code there, and of a probability at the temperature `SHARP`; 3e-4 and 1.5e-4 by the
defaults. TF32's in the products with codes is as large.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cpcdr.loss.assignment import Assignment
from cpcdr.loss.config import LossConfig
from cpcdr.loss.fused_products import (
    LIFT,
    assign_op,
    first_round_op,
    halves_op,
    prototype_gradient_op,
    round_op,
    similarity_op,
)
from cpcdr.loss.sinkhorn import TINY, WIDE, on_grid, prototype_scales
from cpcdr.runtime.ranks import max_over_ranks


def fits(prototypes: Tensor) -> bool:
    """Whether the kernels take prototypes [K, C] of these sizes."""
    return 1 <= len(prototypes) <= 16384 and prototypes.shape[1] <= 256


def assign(
    features: Tensor,
    prototypes: Tensor,
    weight: Tensor,
    parts: Sequence[int],
    config: LossConfig,
) -> Assignment:
    """See `cpcdr.loss.assignment.assign`; float32, and sizes that `fits`."""
    prototypes = prototypes.contiguous()
    epsilon, wide, sizes = config.epsilon, config.epsilon >= WIDE, list(parts)
    high, low = halves_op(features.contiguous())
    # The sums of the first round, or each prototype's largest similarity: see `sinkhorn_codes`.
    halves = high, low, *halves_op(prototypes)
    similarity, first = similarity_op(*halves, weight, sizes, epsilon, wide)
    peak, row_peak = torch.ones_like(first), torch.zeros_like(weight)
    if not wide:
        peak = on_grid(max_over_ranks(first))
        row_peak, first = first_round_op(similarity, weight, peak, sizes, epsilon)

    def columns(prototype: Tensor | None) -> Tensor:
        if prototype is None:
            return first
        return round_op(similarity, weight, peak, row_peak, prototype, sizes, epsilon)

    prototype, total = prototype_scales(columns, weight, parts, config.sinkhorn_iterations)
    scales = (peak, row_peak, prototype)
    code_sums, said, expected, norm, preferred = assign_op(
        similarity, weight, prototypes, *scales, sizes, epsilon, config.temperature
    )
    sample = 1.0 / said.clamp_min(TINY)

    def of_prototypes(features: Tensor, mean: Tensor, of: Tensor, scale: Tensor) -> Tensor:
        largest = scale.amax().clamp_min(TINY) if len(scale) else scale.new_ones(())
        relative = scale / largest
        factors = (relative / norm, relative * sample)
        gradient = prototype_gradient_op(
            similarity, high, mean, of, *factors, *scales, sizes, epsilon, config.temperature
        )
        return gradient[:, : prototypes.shape[1]] * (largest / LIFT)

    return Assignment(
        code_sums,
        sample,
        total,
        norm.log(),
        preferred[len(preferred) - sizes[-1] :],
        lambda: expected,
        of_prototypes,
    )
