"""Batches of one epoch of a task, whose own stream of batches has no end."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import Any

import torch

from cpcdr.train.task import Task


def epoch_batches(
    task: Task,
    epoch: int,
    first_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
) -> list[dict[str, Any]]:
    """A rank's batches of an epoch from ``first_step`` on."""
    steps = task.steps_per_epoch(world_size)
    first, where = epoch * steps + first_step, device or torch.device("cpu")
    with closing(task.batches(first, rank, world_size, where)) as stream:  # type: ignore[type-var]
        return list(islice(stream, steps - first_step))
