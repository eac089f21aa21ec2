"""Depth training as a task for the worker loop: triplets in, loss out."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpcdr.depth.augment import apply_colour, colour_matrices, flip_horizontally
from cpcdr.depth.config import TINY, DepthConfig
from cpcdr.depth.model import DepthModel
from cpcdr.depth.triplets import FrameMotion, find_triplets, measure_here, runs_of_frames
from cpcdr.frames.frame import FrameSource
from cpcdr.frames.reader import FrameReader
from cpcdr.runtime.device import move, to_unit_float
from cpcdr.runtime.progress import Progress
from cpcdr.train.prefetch import prefetch

__all__ = ["TINY", "DepthConfig", "DepthTask"]

_PIECE = 32
"""Triplets in a row that one process reads: their frames are shared by neighbours."""


class DepthTask:
    """Self-supervised depth from video. Making one reads every frame once, to find the triplets.

    Args:
        source: video to train on; any number of recordings and cameras.
        motions: of all frames, measured elsewhere at the training size; None: measured here.

    Attributes:
        scan: the triplets, and what was skipped.

    Raises:
        InputError: the source holds no triplet with motion.
    """

    kind = "depth"

    def __init__(
        self,
        config: DepthConfig,
        source: FrameSource,
        motions: Iterable[FrameMotion] | None = None,
        seed: int = 0,
    ) -> None:
        self.settings, self.seed = config, seed
        self.source = source
        self._reader = self._make_reader()
        if motions is None:
            motions = measure_here(source, self._reader, config.readers)
        frames = sum(map(len, runs_of_frames(source)))
        seen = Progress(motions, "looking for motion", frames, unit="frame")
        self.scan = find_triplets(source, seen, config.min_motion, config.spacing)

    def __getstate__(self) -> dict[str, Any]:
        # Locks do not travel, and decoded frames should not.
        return {name: value for name, value in vars(self).items() if name != "_reader"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reader = self._make_reader()

    def _make_reader(self) -> FrameReader:
        height, width = self.settings.height, self.settings.width
        room = (self.settings.cache_mib << 20) // (3 * height * width)
        return FrameReader(self.source, (height, width), room)

    def build(self) -> nn.Module:
        """Depth and pose networks with their loss; random weights."""
        return DepthModel(self.settings)

    def steps_per_epoch(self, world_size: int) -> int:
        """Whole batches in the triplets; 1 where there are fewer (some are then repeated)."""
        return max(1, len(self.scan.triplets) // (self.settings.batch_size * world_size))

    def batches(
        self, epoch: int, first_step: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        """This rank's batches, read ahead by threads.

        The order is a function of (seed, epoch), and augmentation one of (seed, epoch, step, rank).
        Each rank keeps the same triplets, in runs of 32, in every epoch: so it
        reads and caches only its part of the frames.

        Yields:
            ``images``, ``jittered`` float32 [B, 3, 3, H, W] in [0, 1] (previous, current, next
            frame; RGB), ``intrinsics`` float32 [B, 4], ``flipped`` bool [B].
        """
        config = self.settings
        order = self._order(epoch, world_size)[rank]
        steps = range(first_step, len(order))
        pin = device.type == "cuda"
        loaded = prefetch(lambda step: self._load(order[step], pin), steps, config.readers)
        for step, (images, intrinsics) in zip(steps, loaded, strict=True):
            rng = np.random.default_rng([self.seed, epoch, step, rank])
            yield _augmented(images, intrinsics, config.jitter, rng, device)

    def plain_batches(self, device: torch.device) -> Iterator[dict[str, Any]]:
        """Every triplet once, in order, as it is: for measuring. The last batch may be smaller."""
        numbers = np.arange(len(self.scan.triplets))
        for start in range(0, len(numbers), self.settings.batch_size):
            images, intrinsics = self._load(
                numbers[start : start + self.settings.batch_size], False
            )
            pixels = to_unit_float(images.to(device))
            flipped = torch.zeros(len(pixels), dtype=torch.bool, device=device)
            camera = intrinsics.to(device)
            yield {"images": pixels, "jittered": pixels, "intrinsics": camera, "flipped": flipped}

    def _order(self, epoch: int, world_size: int) -> NDArray[np.int64]:
        """Triplet numbers int64 [world_size, steps, batch_size]."""
        count, batch = len(self.scan.triplets), self.settings.batch_size
        steps = self.steps_per_epoch(world_size)
        piece = max(1, min(_PIECE, count // (8 * world_size)))
        owner = np.arange(count) // piece % world_size
        rng = np.random.default_rng([self.seed, epoch])
        # resize() repeats the order where there are fewer triplets than the steps take.
        return np.stack(
            [
                np.resize(rng.permutation(np.flatnonzero(owner == rank)), (steps, batch))
                for rank in range(world_size)
            ]
        )

    def _load(self, numbers: NDArray[np.int64], pin: bool) -> tuple[Tensor, Tensor]:
        """uint8 [B, 3, H, W, 3] and float32 [B, 4] of triplets."""
        images, intrinsics = [], []
        for number in numbers:
            frames = [self._reader.read(ref) for ref in self.scan.triplets[number]]
            images.append(np.stack([image for image, _ in frames]))
            intrinsics.append(frames[1][1])
        stacked = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(intrinsics))
        return (stacked[0].pin_memory(), stacked[1].pin_memory()) if pin else stacked

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The networks, and the learned intrinsics at 3× learning rate, frozen for the first 40 %
        of training.

        While depth and rotation are wrong, the photometric loss does not constrain the intrinsics.
        """
        named = list(model.named_parameters())
        camera = [p for name, p in named if name.startswith("intrinsics.")]
        networks = [p for name, p in named if not name.startswith("intrinsics.")]
        groups: list[dict[str, Any]] = [{"params": networks}]
        return [*groups, {"params": camera, "lr_scale": 3.0, "starts": 0.4}] if camera else groups

    def after_step(self, model: nn.Module) -> None:
        """Nothing to do."""

    def alarm(self, metrics: dict[str, float], done: float) -> str:
        """A disparity that is constant over the image has no gradient that could bring it back."""
        if done < 0.3 or metrics["disparity_spread"] >= 0.002:
            return ""
        return (
            f"at step {metrics['step']:.0f} disparity is constant over the image: the network has "
            "collapsed; lower --train.lr, and run again with a new --out."
        )

    def config(self) -> dict[str, Any]:
        """Fields of `DepthConfig`, and ``data``: the spec of the source."""
        return {**asdict(self.settings), "seed": self.seed, "data": self.source.spec}

    def example(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Up to four frames of a batch as the network sees them, for figures.

        Returns:
            ``image`` and ``synthesised`` (made of the next frame) [n, 3, H, W] in [0, 1],
            ``disparity`` [n, H, W], ``automask`` [n, H, W] bool.
        """
        assert isinstance(model, DepthModel)
        few = {name: value[:4] for name, value in batch.items()}
        training = model.training
        model.eval()
        with torch.no_grad():
            disparities, photometric, *_ = model.reconstruct({**few, "jittered": few["images"]})
        model.train(training)
        return {
            "image": few["images"][:, 1],
            "disparity": disparities[0][:, 0],
            "synthesised": photometric.synthesised,
            "automask": photometric.mask,
        }


def _augmented(
    images: Tensor,
    intrinsics: Tensor,
    jitter: float,
    rng: np.random.Generator,
    device: torch.device,
) -> dict[str, Any]:
    flipped = move(torch.from_numpy(rng.random(len(images)) < 0.5), device)
    colours = move(colour_matrices(rng, len(images), jitter), device)
    # Bytes travel, floats are made where they are used.
    pixels = to_unit_float(move(images, device))
    pixels, camera = flip_horizontally(pixels, move(intrinsics, device), flipped)
    return {
        "images": pixels,
        "jittered": apply_colour(colours, pixels),
        "intrinsics": camera,
        "flipped": flipped,
    }
