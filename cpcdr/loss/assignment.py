"""Soft assignment of samples to prototypes: by codes, the targets, and by softmax, the prediction.

The matrices of samples by prototypes are the largest of a training. `swapped_prediction` needs of
them only what is in an `Assignment`; a GPU makes that by kernels of its own (`cpcdr.loss.fused`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from cpcdr.loss.config import LossConfig
from cpcdr.loss.sinkhorn import sinkhorn_codes
from cpcdr.runtime.device import runs_triton, tf32

SHARP = 1 / 60
"""Below this temperature exp(similarity / temperature) may leave float32."""


@dataclass(frozen=True)
class Assignment:
    """What the loss and its gradient need of codes q and softmax p, both [S, K].

    On a GPU what belongs to samples of weight 0 is finite and means nothing.

    Attributes:
        code_sums: [S, C] sum over k of q[s, k] prototypes[k], over ``sample[s]``.
        sample: [S].
        total: [parts] summed weights of the samples of all ranks.
        log_norm: [S] logarithm of the softmax's denominator.
        preferred: int64 [S of the last part] the prototype of each sample's largest code.
        expected: makes [S, C], the sum over k of p[s, k] prototypes[k].
        of_prototypes: makes [K, C] of (features [S, C], mean [G, C], of int64 [S], scale [S]):
            the sum over s of scale[s] (p[s, k] features[s] - q[s, k] mean[of[s]]).
    """

    code_sums: Tensor
    sample: Tensor
    total: Tensor
    log_norm: Tensor
    preferred: Tensor
    expected: Callable[[], Tensor]
    of_prototypes: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def fused_kernels(features: Tensor, prototypes: Tensor, config: LossConfig) -> ModuleType | None:
    """The module whose ``assign`` is faster for these arguments; None: `assign` of this one."""
    exact = features.dtype == torch.float32 and config.temperature >= SHARP
    if not (exact and runs_triton(features.device)):
        return None
    from cpcdr.loss import fused

    return fused if fused.fits(prototypes) else None


def assign(
    features: Tensor,
    prototypes: Tensor,
    weight: Tensor,
    parts: Sequence[int],
    config: LossConfig,
) -> Assignment:
    """The assignment of features [S, C] to prototypes [K, C], with two matrices in memory.

    Args:
        weight: [S], see `cpcdr.loss.sinkhorn.sinkhorn_codes`.
        parts: sizes of the parts, S in sum.
    """
    similarity = features @ prototypes.t()
    codes = sinkhorn_codes(similarity, weight, parts, config.epsilon, config.sinkhorn_iterations)
    kernel = codes.kernel.to(features.dtype)
    for part, row in zip(kernel.split(parts), codes.prototype, strict=True):
        part.mul_(row)
    softmax, peak = similarity, similarity.new_zeros(())
    if config.temperature < SHARP:
        peak = similarity.amax(dim=1)
        softmax.sub_(peak[:, None])
    norm = softmax.div_(config.temperature).exp_().sum(dim=1)
    with tf32():
        code_sums = kernel @ prototypes

    def expected() -> Tensor:
        with tf32():
            return (softmax @ prototypes) / norm[:, None]

    def of_prototypes(features: Tensor, mean: Tensor, of: Tensor, scale: Tensor) -> Tensor:
        with tf32():
            gradient = softmax.t() @ (features * (scale / norm)[:, None])
            gradient -= kernel.t() @ (mean[of] * (scale * codes.sample)[:, None])
        return gradient

    return Assignment(
        code_sums,
        codes.sample,
        codes.total,
        norm.log() + peak / config.temperature,
        kernel[len(kernel) - parts[-1] :].argmax(dim=1),
        expected,
        of_prototypes,
    )
