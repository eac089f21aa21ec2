"""Soft assignments of samples to prototypes with equal use of every prototype."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_TINY = 1e-30  # no division by an empty sum


class Scales(NamedTuple):
    """Codes without their matrix: q[s, k] = exp((similarity - shift[s]) / epsilon) * sample[s] *
    prototype[k]."""

    shift: Tensor  # [S] largest similarity of the sample
    sample: Tensor  # [S]
    prototype: Tensor  # [K]


@torch.no_grad()
def sinkhorn_scales(similarity: Tensor, epsilon: float, iterations: int) -> tuple[Scales, Tensor]:
    """Sinkhorn-Knopp codes (Caron et al., "SwAV", NeurIPS 2020, section 3.1 and listing 1).

    Normalising rows and columns in turn only ever scales them, so two vectors are kept and the
    matrix of exponentials is read, never rewritten. The sums over samples run over all ranks, so
    that two processes with half the samples each get the codes that one process gets for all.

    Args:
        similarity: [S, K] cosine similarities in [-1, 1]. Every rank must call, S may differ and
            may be 0.
        epsilon: smoothness of the assignment.
        iterations: rounds of prototype and sample normalisation.

    Returns:
        the scales, and the codes [S, K] that they make, at least float32.
    """
    samples, prototypes = similarity.shape
    similarity = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
    shift = similarity.amax(dim=1) if prototypes else similarity.new_zeros(samples)
    kernel = exponentials(similarity, shift, epsilon)
    scale = ((shift - 1.0) / epsilon).exp()  # the listing starts from exp(similarity / epsilon)
    total = _sum_over_ranks(torch.full((1,), float(samples), device=kernel.device))
    weight = kernel.new_ones(prototypes)
    for _ in range(iterations):
        weight = total / prototypes / _sum_over_ranks(scale @ kernel).clamp_min(_TINY)
        scale = 1.0 / (kernel @ weight).clamp_min(_TINY)
    return Scales(shift, scale, weight), kernel.mul_(weight).mul_(scale[:, None])


def exponentials(similarity: Tensor, shift: Tensor, epsilon: float) -> Tensor:
    """exp((similarity - shift) / epsilon): [S, K] of numbers in (0, 1]."""
    return (similarity - shift[:, None]).div_(epsilon).exp_()


def sinkhorn(similarity: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """The codes of `sinkhorn_scales`: [S, K]; rows sum to 1, columns to about S_total / K."""
    return sinkhorn_scales(similarity.detach(), epsilon, iterations)[1]


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return tensor
