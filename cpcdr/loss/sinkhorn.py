"""Soft assignments of samples to prototypes with equal use of every prototype."""

from typing import NamedTuple

import torch
from torch import Tensor

from cpcdr.runtime.ranks import max_over_ranks, sum_over_ranks

_TINY = 1e-30  # no division by an empty sum
_GRID = 2.0**-12


class Scales(NamedTuple):
    """Codes without their matrix: q[s, k] = exp((similarity - sample_shift[s] -
    prototype_shift[k]) / epsilon) * sample[s] * prototype[k]."""

    sample_shift: Tensor  # [S]
    prototype_shift: Tensor  # [K]
    sample: Tensor  # [S]
    prototype: Tensor  # [K]


@torch.no_grad()
def sinkhorn_scales(
    similarity: Tensor, epsilon: float, iterations: int
) -> tuple[Scales, Tensor, Tensor]:
    """Sinkhorn-Knopp codes (Caron et al., "SwAV", NeurIPS 2020, section 3.1 and listing 1).

    Normalising rows and columns in turn only ever scales them, so two vectors are kept and the
    matrix of exponentials is read, never rewritten. The sums over samples run over all ranks, so
    that two processes with half the samples each get the codes that one process gets for all.

    exp(similarity / epsilon) spans hundreds of decades where epsilon is small. Two shifts keep it
    within float32: each prototype's largest similarity over the samples of all ranks, then each
    sample's largest remainder. Afterwards every row and every column has a value near 1, and what
    underflows is below 1e-38 of the sum it belongs to.

    Args:
        similarity: [S, K] cosine similarities in [-1, 1]. Every rank must call, S may differ and
            may be 0.

    Returns:
        the scales; the codes [S, K] that they make, at least float32; and the number of samples
        over all ranks, [1].
    """
    samples, prototypes = similarity.shape
    similarity = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
    prototype_shift = similarity.new_full((prototypes,), -1.0)
    if samples:
        prototype_shift = similarity.amax(dim=0)
    prototype_shift = _on_grid(max_over_ranks(prototype_shift))
    sample_shift = similarity.new_zeros(samples)
    if prototypes:
        sample_shift = _on_grid((similarity - prototype_shift).amax(dim=1))
    kernel = exponentials(similarity, sample_shift, prototype_shift, epsilon)
    # The listing starts from exp(similarity / epsilon); a factor for each prototype drops out.
    scale = (sample_shift / epsilon).exp()
    total = sum_over_ranks(torch.full((1,), float(samples), device=kernel.device))
    weight = kernel.new_ones(prototypes)
    for _ in range(iterations):
        weight = total / prototypes / sum_over_ranks(scale @ kernel).clamp_min(_TINY)
        scale = 1.0 / (kernel @ weight).clamp_min(_TINY)
    codes = kernel.mul_(weight).mul_(scale[:, None])
    return Scales(sample_shift, prototype_shift, scale, weight), codes, total


def exponentials(
    similarity: Tensor, sample_shift: Tensor, prototype_shift: Tensor, epsilon: float
) -> Tensor:
    """exp((similarity - sample_shift - prototype_shift) / epsilon): [S, K] of numbers in (0, 1]."""
    # The sum of the shifts is exact, so the difference is exact where it is small: an error of
    # float32 in it, 3e-8, would be 6e-6 of a code at epsilon 0.005.
    shift = sample_shift[:, None] + prototype_shift
    return torch.sub(similarity, shift, out=shift).div_(epsilon).exp_()


def sinkhorn(similarity: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """The codes of `sinkhorn_scales`: [S, K]; rows sum to 1, columns to about S_total / K."""
    return sinkhorn_scales(similarity.detach(), epsilon, iterations)[1]


def _on_grid(shift: Tensor) -> Tensor:
    """Rounded up to a multiple of 2^-12, so that sums of two shifts are exact in float32."""
    return (shift / _GRID).ceil() * _GRID
