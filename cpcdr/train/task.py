"""What the one worker loop trains: each kind of training is a `Task`."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn

Batch = dict[str, Any]


class Task(Protocol):
    """A picklable description of a training: sent to every worker, which then builds it.

    Attributes:
        kind: ``depth``, ``street``, ``pretrain`` or ``finetune``; stored in checkpoints so that a
            checkpoint of another network is refused with a sentence.
    """

    @property
    def kind(self) -> str:
        """See above."""

    @property
    def seed(self) -> int:
        """See above."""

    def build(self) -> nn.Module:
        """The module to train. ``forward(batch)`` returns a dict of scalar tensors: ``loss`` (with
        gradient) and any number of health metrics. Weights are seeded by the loop beforehand."""

    def steps_per_epoch(self, world_size: int) -> int:
        """Batches in an epoch, equal on all ranks."""

    def batches(
        self, first: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[Batch]:
        """This rank's batches from number ``first`` of the training on, without an end: one epoch
        follows another, and what is read ahead does not stop in between. A function of its
        arguments and of the seed alone, so that a resumed run sees what an uninterrupted one would
        have."""

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Optimiser groups: dicts with ``params`` (list), and optional ``lr_scale`` and ``starts``.

        ``starts`` is the fraction of all steps before which the group's rate is 0.
        """

    def after_step(self, model: nn.Module) -> None:
        """Called on the bare module after each optimiser step (prototype normalisation)."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Metrics on held-out data before each checkpoint, on every rank; empty if there is none.

        ``held_out`` is what the best checkpoint has least of. A task may mend the model here, and
        says so by ``restarted`` 1: the optimiser then forgets its moments.
        """

    def finish(self, model: nn.Module) -> None:
        """Called on every rank after the last step, before the last checkpoint."""

    def alarm(self, metrics: dict[str, float], done: float) -> str:
        """A sentence if these metrics, after the fraction ``done`` of training, show that it cannot
        succeed; else ``""``. The loop itself stops where the loss is not finite."""

    def config(self) -> dict[str, Any]:
        """Plain nested dict that rebuilds the network: goes into the checkpoint's config.yaml."""
