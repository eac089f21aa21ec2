"""Soft assignments of samples to prototypes with equal use of every prototype."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


@torch.no_grad()
def sinkhorn(similarity: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Sinkhorn-Knopp codes (Caron et al., "SwAV", NeurIPS 2020, section 3.1 and listing 1).

    The sums over samples run over all ranks, so that two processes with half the samples each get
    the codes that one process gets for all of them.

    Args:
        similarity: [S, K] cosine similarities in [-1, 1]. Every rank must call, S may differ and
            may be 0.
        epsilon: smoothness of the assignment.
        iterations: rounds of prototype and sample normalisation.

    Returns:
        float32 [S, K] codes; every row sums to 1, and every column to about S_total / K.
    """
    samples, prototypes = similarity.shape
    # Similarities are at most 1, so the shift keeps exp() in range without a maximum over ranks.
    q = torch.exp((similarity.float() - 1.0) / epsilon)
    total = _sum_over_ranks(torch.tensor([float(samples)], device=q.device))
    for _ in range(iterations):
        q *= total / prototypes / _sum_over_ranks(q.sum(dim=0)).clamp_min(1e-30)
        q /= q.sum(dim=1, keepdim=True).clamp_min(1e-30)
    return q
