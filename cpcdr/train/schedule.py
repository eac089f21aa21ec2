"""Learning rate by step."""

from __future__ import annotations

import math


def learning_rate(step: int, total: int, warmup: int, peak: float, final: float) -> float:
    """Linear warm-up to ``peak``, then a half cosine down to ``final`` at the last step.

    Args:
        step: 0-based optimiser step.
        total: steps in all.
        warmup: steps of the linear rise; the rate is never zero.

    >>> [round(learning_rate(s, 5, 2, 1.0, 0.0), 2) for s in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    span = max(1, total - warmup - 1)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / span)))
