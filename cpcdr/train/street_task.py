"""Depth of rendered streets with exact truth as a task for the worker loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cpcdr.depth.street_augment import as_camera
from cpcdr.depth.street_net import StreetNet
from cpcdr.depth.street_shots import Shot, render_shot
from cpcdr.runtime.device import move
from cpcdr.runtime.errors import InputError

_READERS = 2
_GRADIENT_WEIGHT = 0.5
"""Of the differences between neighbours, at four scales, relative to the values themselves."""
_SKY_M = 190.0
"""Depth in metres beyond which a pixel is as good as infinitely far."""


@dataclass(frozen=True)
class StreetConfig:
    """Supervised depth training on rendered streets.

    Attributes:
        width: channels of the network's first layer.
        size: height and width of the rendered shots, multiples of 32.
        shots: rendered shots of an epoch; kept in memory and augmented anew in each.
        batch_size: shots a step on each GPU (or process).
        seed: of streets, order and augmentation.
    """

    width: int = 24
    size: tuple[int, int] = (160, 384)
    shots: int = 4000
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.size) < 64 or self.size[0] % 32 or self.size[1] % 32:
            raise InputError("--street.size takes multiples of 32, at least 64.")
        if min(self.width, self.shots, self.batch_size) < 1:
            raise InputError("--street.width, --street.shots and --street.batch-size must be ≥ 1.")


class StreetModule(nn.Module):
    """The network with its loss."""

    def __init__(self, config: StreetConfig) -> None:
        super().__init__()
        self.network = StreetNet(config.width)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` and measures.

        Args:
            batch: ``images`` float32 [B, 3, H, W] in [0, 1], ``depth`` [B, 1, H, W] in metres,
                ``focal`` [B] in pixels.

        Returns:
            ``loss``; ``abs_rel`` and ``delta1`` (Eigen et al. 2014) where it is nearer than the
            sky, without alignment of scales.
        """
        predicted = self.network(batch["images"])
        depth, focal = batch["depth"], batch["focal"][:, None, None, None]
        error = predicted - (focal / depth).log()
        seen = depth < _SKY_M
        loss = error.abs().mean() + _GRADIENT_WEIGHT * gradient_loss(error)
        ratio = error.detach()[seen]
        return {
            "loss": loss,
            "abs_rel": ((-ratio).exp() - 1).abs().mean(),
            "delta1": (ratio.abs() < np.log(1.25)).float().mean(),
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

    def __init__(self, config: StreetConfig) -> None:
        self.settings = config
        self._cache: dict[int, Shot] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_cache": {}}

    def build(self) -> nn.Module:
        """The network; random weights."""
        return StreetModule(self.settings)

    def steps_per_epoch(self, world_size: int) -> int:
        """Whole batches of the shots, at least 1."""
        return max(1, self.settings.shots // (self.settings.batch_size * world_size))

    def batches(
        self, epoch: int, first_step: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        """This rank's batches, a function of (seed, epoch, step, rank), rendered by threads."""
        c = self.settings
        order = np.random.default_rng([c.seed, epoch]).permutation(c.shots)
        steps = self.steps_per_epoch(world_size)
        table = np.resize(order, (steps, c.batch_size * world_size))[:, rank::world_size]
        waiting: deque[Future[list[Shot]]] = deque()
        pool = ThreadPoolExecutor(_READERS)
        try:
            ahead = first_step
            for step in range(first_step, steps):
                while ahead < min(steps, step + 2 * _READERS):
                    seeds = (c.seed, epoch, ahead, rank)
                    waiting.append(pool.submit(self._load, table[ahead].tolist(), seeds))
                    ahead += 1
                shots = waiting.popleft().result()
                images = torch.from_numpy(np.stack([shot.image for shot in shots]))
                depth = torch.from_numpy(np.stack([shot.depth for shot in shots]))
                focal = torch.tensor([shot.focal for shot in shots])
                yield {
                    "images": move(images, device).permute(0, 3, 1, 2).float() / 255,
                    "depth": move(depth, device)[:, None],
                    "focal": move(focal, device),
                }
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, numbers: list[int], seeds: tuple[int, ...]) -> list[Shot]:
        shots = []
        for place, number in enumerate(numbers):
            if number not in self._cache:
                shot = render_shot(self.settings.seed, number, self.settings.size)
                self._cache[number] = shot._replace(depth=shot.depth.astype(np.float16))
            kept = self._cache[number]
            rng = np.random.default_rng([*seeds, place])
            shots.append(as_camera(kept._replace(depth=kept.depth.astype(np.float32)), rng))
        return shots

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """All of the network alike."""
        return [{"params": list(model.parameters())}]

    def after_step(self, model: nn.Module) -> None:
        """Nothing to do."""

    def alarm(self, metrics: dict[str, float], done: float) -> str:
        """Exact depth holds a network in place."""
        return ""

    def config(self) -> dict[str, Any]:
        """Fields of `StreetConfig`."""
        return asdict(self.settings)
