"""Depth of rendered streets with exact truth as a task for the worker loop."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpcdr.depth.config import StreetConfig
from cpcdr.depth.street_augment import as_camera
from cpcdr.depth.street_net import StreetNet
from cpcdr.depth.street_shots import FARTHEST_M, SHAPES, Shot, render_shot
from cpcdr.runtime.device import move, to_unit_float
from cpcdr.train.prefetch import prefetch

_READERS = 2
_SCALE_WEIGHT = 0.3
"""Of a frame's mean error: its scale depends on a camera height that no image shows."""
_GRADIENT_WEIGHT = 0.5
"""Of the differences between neighbours, at four scales, relative to the values themselves."""


class StreetModule(nn.Module):
    """The network with its loss."""

    def __init__(self, config: StreetConfig) -> None:
        super().__init__()
        self.network = StreetNet(config.channels)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` and measures.

        Args:
            batch: ``images`` float32 [B, 3, H, W] in [0, 1], ``depth`` [B, 1, H, W] in metres,
                ``focal`` [B] in pixels.

        Returns:
            ``loss``; ``abs_rel`` and ``delta1`` (Eigen et al. 2014) of what is nearer than the
            sky, without alignment of scales.
        """
        depth, focal = batch["depth"], batch["focal"][:, None, None, None]
        error = self.network(batch["images"]) - (focal / depth).log()
        nearer = (depth < 0.95 * FARTHEST_M).float()
        size = error.detach()
        seen = nearer.sum().clamp(min=1)
        # The sky may be farther than we can say.
        error = torch.where(nearer > 0, error, error.relu())
        scale = (error * nearer).sum((1, 2, 3)) / nearer.sum((1, 2, 3)).clamp(min=1)
        shape = (error - scale[:, None, None, None] * nearer).abs().mean()
        return {
            "loss": shape
            + _SCALE_WEIGHT * scale.abs().mean()
            + _GRADIENT_WEIGHT * gradient_loss(error),
            "abs_rel": (((-size).exp() - 1).abs() * nearer).sum() / seen,
            "delta1": ((size.abs() < math.log(1.25)) * nearer).sum() / seen,
        }


def gradient_loss(error: Tensor, scales: int = 4) -> Tensor:
    """Mean absolute differences of neighbouring errors [B, 1, H, W] over halved scales
    (Li and Snavely 2018, MegaDepth)."""
    total = error.new_zeros(())
    for scale in range(scales):
        step = 1 << scale
        coarse = error[..., ::step, ::step]
        total = total + coarse.diff(dim=-1).abs().mean() + coarse.diff(dim=-2).abs().mean()
    return total / scales


class StreetTask:
    """Implements `cpcdr.train.task.Task`."""

    kind = "street"

    def __init__(self, config: StreetConfig, seed: int = 0) -> None:
        self.settings, self.seed = config, seed
        self._shots: dict[int, Shot] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_shots": {}}

    def build(self) -> nn.Module:
        """The network with its loss; random weights."""
        return StreetModule(self.settings)

    def steps_per_epoch(self, world_size: int) -> int:
        """Whole batches of each shape."""
        shapes = len(SHAPES)
        batches = self.settings.shots // (self.settings.batch_size * world_size * shapes)
        return shapes * max(1, batches)

    def batches(
        self, first: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        """This rank's batches of one shape each, rendered and augmented ahead by threads.

        Yields:
            ``images`` float32 [B, 3, H, W] in [0, 1], ``depth`` float32 [B, 1, H, W] in metres,
            ``focal`` float32 [B] in pixels.
        """
        per_epoch, order = self.steps_per_epoch(world_size), lru_cache(maxsize=2)(self._order)

        def load(number: int) -> list[Shot]:
            epoch, step = divmod(number, per_epoch)
            rng = np.random.default_rng([self.seed, epoch, step, rank])
            shots = order(epoch, world_size)[step, rank].tolist()
            return [as_camera(self._shot(shot), rng) for shot in shots]

        for shots in prefetch(load, count(first), _READERS):
            images = torch.from_numpy(np.stack([shot.image for shot in shots]))
            depth = torch.from_numpy(np.stack([shot.depth for shot in shots]))
            yield {
                "images": to_unit_float(move(images, device)),
                "depth": move(depth, device)[:, None],
                "focal": move(torch.tensor([shot.focal for shot in shots]), device),
            }

    def _order(self, epoch: int, world_size: int) -> NDArray[np.int64]:
        """Shot numbers int64 [steps, world_size, batch_size]; a step's are of one shape."""
        config, shapes = self.settings, len(SHAPES)
        rng = np.random.default_rng([self.seed, epoch])
        size = (self.steps_per_epoch(world_size) // shapes, world_size, config.batch_size)
        numbers = [np.arange(shape, config.shots, shapes) for shape in range(shapes)]
        tables = [np.resize(rng.permutation(own), size) for own in numbers]
        return np.stack(tables, 1).reshape(-1, *size[1:])

    def _shot(self, number: int) -> Shot:
        if number not in self._shots:
            shot = render_shot(self.seed, number)
            self._shots[number] = shot._replace(depth=shot.depth.astype(np.float16))
        kept = self._shots[number]
        return kept._replace(depth=kept.depth.astype(np.float32))

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """All of the network alike."""
        return [{"params": list(model.parameters())}]

    def after_step(self, model: nn.Module) -> None:
        """Nothing to do."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Nothing is held out."""
        return {}

    def finish(self, model: nn.Module) -> None:
        """The last weights stay as they are."""

    def alarm(self, metrics: dict[str, float], done: float) -> str:
        """None: exact depth leaves no room for a collapse."""
        return ""

    def config(self) -> dict[str, Any]:
        """Fields of `StreetConfig`."""
        return {**asdict(self.settings), "seed": self.seed}
