"""Learning rate by step."""

from __future__ import annotations

import math

SHAPES = ("cosine", "poly")


def learning_rate(
    step: int, total: int, warmup: int, peak: float, final: float, shape: str = "cosine"
) -> float:
    """Linear warm-up to ``peak``, then down to ``final`` at the last step.

    Args:
        warmup: steps of the linear rise; the rate is never zero.
        shape: ``cosine`` (half a wave) or ``poly`` (power 0.9, usual for segmentation).

    >>> [round(learning_rate(s, 5, 2, 1.0, 0.0), 2) for s in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    span = max(1, total - warmup - 1)
    done = min(1.0, (step - warmup) / span)
    left = (1 - done) ** 0.9 if shape == "poly" else 0.5 * (1 + math.cos(math.pi * done))
    return final + (peak - final) * left
