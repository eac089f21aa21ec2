"""Rows added up by the group, or the place, that each belongs to, and given back to them."""

import torch
from torch import Tensor

from cpcdr.runtime.device import runs_triton


def scatter_rows(values: Tensor, rows: Tensor, weight: Tensor, count: int) -> Tensor:
    """A table of which row r is the sum over s, t with rows[s, t] = r of weight[s, t] values[s].

    Args:
        values: [S, C].
        rows: int64 [S, T] in 0..count-1.
        weight: [S, T].
        count: number of rows of the table.

    Returns:
        [count, C]; on a GPU sums are made in any order.
    """
    if values.dtype == torch.float32 and runs_triton(values.device):
        from cpcdr.loss.fused_points import scatter_op

        return scatter_op(values, rows, weight, count)
    parts = (weight[..., None] * values[:, None]).flatten(0, 1)
    table = values.new_zeros(count, values.shape[1])
    return table.index_add_(0, rows.flatten(), parts)


def scaled_difference(values: Tensor, means: Tensor, of: Tensor, scale: Tensor) -> Tensor:
    """scale[s] (values[s] - means[of[s]]): values [S, C], means [G, C], of int64 [S], scale [S]."""
    if values.dtype == torch.float32 and runs_triton(values.device):
        from cpcdr.loss.fused_points import scaled_difference_op

        return scaled_difference_op(values.contiguous(), means, of, scale)
    return (values - means[of]) * scale[:, None]
