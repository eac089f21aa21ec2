"""Soft assignments of samples to prototypes with equal use of every prototype."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cpcdr.runtime.ranks import max_over_ranks, sum_over_ranks

TINY = 1e-30  # no division by an empty sum
GRID = 2.0**-12
WIDE = 1 / 30
"""From this epsilon on exp(similarity / epsilon) spans 26 decades at most: one shift is enough."""


class Codes(NamedTuple):
    """Codes as they are made: q[s, k] = kernel[s, k] * sample[s] * prototype[part of s, k].

    Attributes:
        kernel: [S, K], at least float32.
        sample: [S].
        prototype: [parts, K].
        total: [parts] summed weights of the samples of all ranks.
    """

    kernel: Tensor
    sample: Tensor
    prototype: Tensor
    total: Tensor


@torch.no_grad()
def sinkhorn_codes(
    similarity: Tensor, weight: Tensor, parts: Sequence[int], epsilon: float, iterations: int
) -> Codes:
    """Sinkhorn-Knopp codes (Caron et al., "SwAV", NeurIPS 2020, section 3.1 and listing 1).

    Normalising rows and columns in turn only ever scales them, so two vectors are kept and the
    matrix of exponentials is read, never rewritten. Samples come in parts, each with codes of its
    own, whose sums travel together. They run over all ranks, so that two processes with half the
    samples each get the codes that one process gets for all.

    exp(similarity / epsilon) spans hundreds of decades where epsilon is small. Two shifts keep it
    within float32: each prototype's largest similarity over the samples of all ranks, then each
    sample's largest remainder. Afterwards every row and every column has a value near 1, and what
    underflows is below 1e-38 of the sum it belongs to.

    Args:
        similarity: [S, K] cosine similarities in [-1, 1]. Every rank must call, S may differ and
            may be 0.
        weight: [S] in [0, 1]; samples of weight 0 get codes, but have no part in the others'.
        parts: sizes of the parts, S in sum.
    """
    similarity = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
    weight = weight.to(similarity.dtype)
    sample_shift, shift = _shifts(similarity, weight, parts, epsilon)
    kernel = torch.sub(similarity, shift).div_(epsilon).exp_()
    rows = kernel.split(parts)

    def sample_scale(prototype: Tensor) -> Tensor:
        said = torch.cat([part @ row for part, row in zip(rows, prototype, strict=True)])
        return 1.0 / said.clamp_min(TINY)

    def columns(prototype: Tensor | None) -> Tensor:
        # The listing starts from exp(similarity / epsilon); a factor for each prototype drops out.
        scale = (sample_shift / epsilon).exp() if prototype is None else sample_scale(prototype)
        scales = (scale * weight).split(parts)
        return torch.stack([scale @ part for scale, part in zip(scales, rows, strict=True)])

    prototype, total = prototype_scales(columns, weight, parts, iterations)
    return Codes(kernel, sample_scale(prototype), prototype, total)


def prototype_scales(
    columns: Callable[[Tensor | None], Tensor],
    weight: Tensor,
    parts: Sequence[int],
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """The scale of each prototype after some rounds, and the summed weights, over all ranks.

    Args:
        columns: from the prototypes' scales, None in the first round, the sums of a rank's weighted
            and rescaled samples by prototype: [parts, K] each.
        weight: [S].

    Returns:
        [parts, K] and [parts].
    """
    sums = columns(None)
    counted = torch.stack([part.sum() for part in weight.split(parts)]).to(sums.dtype)
    together = sum_over_ranks(torch.cat([sums.flatten(), counted]))
    total = together[sums.numel() :]
    sums = together[: sums.numel()].view_as(sums)
    used = total[:, None] / sums.shape[1]
    prototype = used / sums.clamp_min(TINY)
    for _ in range(iterations - 1):
        prototype = used / sum_over_ranks(columns(prototype)).clamp_min(TINY)
    return prototype, total


def sinkhorn(similarity: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """The codes of one part: [S, K]; rows sum to 1, columns to about S_total / K."""
    similarity = similarity.detach()
    weight = similarity.new_ones(len(similarity))
    codes = sinkhorn_codes(similarity, weight, [len(similarity)], epsilon, iterations)
    return codes.kernel * codes.sample[:, None] * codes.prototype


def _shifts(
    similarity: Tensor, weight: Tensor, parts: Sequence[int], epsilon: float
) -> tuple[Tensor, Tensor]:
    """What is subtracted from each sample's similarities, [S], and in all: [S, 1] or [S, K].

    A sum of two shifts is exact, so the difference from it is exact where it is small: an error of
    float32 in it, 3e-8, would be 6e-6 of a code at epsilon 0.005.
    """
    if not similarity.shape[1]:
        return similarity.new_zeros(len(similarity)), similarity
    if epsilon >= WIDE:
        largest = similarity.amax(dim=1)
        return largest, largest[:, None]
    counted = torch.where(weight[:, None] > 0, similarity, -1.0)
    none = counted.new_full((similarity.shape[1],), -1.0)
    peaks = torch.stack([part.amax(dim=0) if len(part) else none for part in counted.split(parts)])
    peaks = on_grid(max_over_ranks(peaks))
    shift = torch.cat([row.expand(size, -1) for row, size in zip(peaks, parts, strict=True)])
    largest = on_grid((similarity - shift).amax(dim=1))
    return largest, shift.add_(largest[:, None])


def on_grid(shift: Tensor) -> Tensor:
    """Rounded up to a multiple of 2^-12, so that sums of two shifts are exact in float32."""
    return (shift / GRID).ceil() * GRID
