"""Depth training as a task for the worker loop: triplets in, loss out."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpcdr.depth.augment import apply_colour, colour_matrices, flip_horizontally
from cpcdr.depth.config import TINY, DepthConfig
from cpcdr.depth.health import collapse
from cpcdr.depth.model import DepthModel, Reconstruction
from cpcdr.depth.still import FEWEST, still_pixels
from cpcdr.depth.street import load_street_network, network_size, street_file
from cpcdr.depth.street_net import StreetNet
from cpcdr.depth.triplets import (
    FrameMotion,
    Triplet,
    find_triplets,
    held_out,
    measure_here,
    runs_of_frames,
    sequences,
)
from cpcdr.frames.frame import FrameSource
from cpcdr.frames.pick import spread, spread_frames
from cpcdr.frames.reader import FrameReader
from cpcdr.runtime.device import move, to_unit_float
from cpcdr.runtime.errors import FrameError
from cpcdr.runtime.progress import Progress, phase
from cpcdr.runtime.ranks import max_over_ranks
from cpcdr.train.prefetch import prefetch

__all__ = ["TINY", "DepthConfig", "DepthTask"]

_PIECE = 32
"""Triplets in a row that one process reads: their frames are shared by neighbours."""
_PIXELS = 160 * 384
"""Of a training image whose size follows from the video: as many as rendered shots have."""
_FINE_TUNING, _MOTION_FIRST = 0.1, 0.1
"""Learning rate of a depth network that was trained before, relative to that of the pose network,
and the fraction of training before it learns at all."""
_STRONGER = 4.0
"""Factor on the prior's weight after a collapse."""


class Loaded(NamedTuple):
    """A batch of triplets: images uint8 [B, 3, H, W, 3], intrinsics float32 [B, 4], and bool
    [B, H, W] where the picture stands still, None where no sequence has such pixels."""

    images: Tensor
    intrinsics: Tensor
    still: Tensor | None


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
        self.settings = config = with_size(config, source)
        self.seed, self.source = seed, source
        self._reader = self._make_reader()
        if motions is None:
            motions = measure_here(source, self._reader, config.readers)
        frames = sum(map(len, runs_of_frames(source)))
        with Progress(motions, "looking for motion", frames, unit="frame") as seen:
            self.scan = find_triplets(source, seen, config.min_motion, config.spacing)
        self.settings = replace(config, spacing=self.scan.spacing)
        self.trained, self.held_out = held_out(self.scan.triplets)
        self.still = self._find_still()

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

    @phase("looking for what never moves")
    def _find_still(self) -> dict[str, NDArray[np.bool_]]:
        """`still_pixels` of each sequence that has any; nothing for a training from scratch."""
        found = {}
        for name, refs in sequences(self.source) if self.settings.prior else ():
            images = []
            for i in spread(len(refs), 2 * FEWEST):
                with suppress(FrameError):
                    images.append(self._reader.read(refs[i])[0])
            still = still_pixels(images) if images else np.zeros(0, np.bool_)
            if still.any():
                found[name] = still
        return found

    def build(self) -> nn.Module:
        """Depth and pose networks with their loss, from where the configuration says."""
        settings = self.settings
        if not settings.prior and settings.start == "scratch":
            return DepthModel(settings)
        street = load_street_network(street_file(settings.start))
        model = DepthModel(settings, street.channels)
        model.start_from(street)
        return model

    def steps_per_epoch(self, world_size: int) -> int:
        """Whole batches in the triplets; 1 where there are fewer (some are then repeated)."""
        return max(1, len(self.trained) // (self.settings.batch_size * world_size))

    def batches(
        self, first: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        """This rank's batches, read ahead by threads.

        The order is a function of (seed, epoch), and augmentation one of (seed, epoch, step, rank).
        Each rank keeps the same triplets, in runs of 32, in every epoch: so it
        reads and caches only its part of the frames.

        Yields:
            ``images``, ``jittered`` float32 [B, 3, 3, H, W] in [0, 1] (previous, current, next
            frame; RGB), ``intrinsics`` float32 [B, 4], ``flipped`` bool [B]; ``still`` bool
            [B, H, W] where some sequence has pixels that stand still.
        """
        config, per_epoch = self.settings, self.steps_per_epoch(world_size)
        order, pin = lru_cache(maxsize=2)(self._order), device.type == "cuda"

        def load(number: int) -> tuple[int, Loaded]:
            epoch, step = divmod(number, per_epoch)
            chosen = order(epoch, world_size)[rank][step]
            return number, self._load([self.trained[i] for i in chosen], pin)

        for number, loading in prefetch(load, count(first), config.readers):
            rng = np.random.default_rng([self.seed, *divmod(number, per_epoch), rank])
            yield _augmented(loading, config.jitter, rng, device)

    def plain_batches(
        self, device: torch.device, triplets: Sequence[Triplet] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every triplet once, in order, as it is: for measuring. The last batch may be smaller."""
        triplets, size = triplets or self.scan.triplets, self.settings.batch_size
        for start in range(0, len(triplets), size):
            images, intrinsics, still = self._load(triplets[start : start + size], False)
            pixels = to_unit_float(images.to(device))
            flipped = torch.zeros(len(pixels), dtype=torch.bool, device=device)
            batch = {"images": pixels, "jittered": pixels, "intrinsics": intrinsics.to(device)}
            extra = {} if still is None else {"still": still.to(device)}
            yield {**batch, "flipped": flipped, **extra}

    def _order(self, epoch: int, world_size: int) -> NDArray[np.int64]:
        """Triplet numbers int64 [world_size, steps, batch_size]."""
        count, batch = len(self.trained), self.settings.batch_size
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

    def _load(self, triplets: Sequence[Triplet], pin: bool) -> Loaded:
        images, intrinsics, still = [], [], []
        nothing = np.zeros((self.settings.height, self.settings.width), np.bool_)
        for triplet in triplets:
            frames = [self._reader.read(ref) for ref in triplet]
            images.append(np.stack([image for image, _ in frames]))
            intrinsics.append(frames[1][1])
            still.append(self.still.get(triplet[1].sequence, nothing))
        tensors = [torch.from_numpy(np.stack(part)) for part in (images, intrinsics, still)]
        pixels, cameras, masks = (t.pin_memory() for t in tensors) if pin else tensors
        return Loaded(pixels, cameras, masks if self.still else None)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The networks, and the learned intrinsics at 3× learning rate, frozen for the first 40 %
        of training: while depth and rotation are wrong, the photometric loss does not constrain
        them. A depth network that was trained before waits for motions, and learns slowly.
        """
        parts: dict[str, list[nn.Parameter]] = {"intrinsics": [], "depth": [], "pose": []}
        for name, parameter in model.named_parameters():
            parts[name.partition(".")[0]].append(parameter)
        if self.settings.start == "scratch":
            groups: list[dict[str, Any]] = [{"params": [*parts["depth"], *parts["pose"]]}]
        else:
            slow = {"params": parts["depth"], "lr_scale": _FINE_TUNING, "starts": _MOTION_FIRST}
            groups = [{"params": parts["pose"]}, slow]
        camera = {"params": parts["intrinsics"], "lr_scale": 3.0, "starts": 0.4}
        return [*groups, camera] if parts["intrinsics"] else groups

    def after_step(self, model: nn.Module) -> None:
        """Nothing to do."""

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Reprojection error on held-out triplets by fitted motions, and a restart after a
        collapse.

        Returns:
            ``held_out_error`` and ``held_out_identity`` (of identity reprojection), means over
            pixels of the lesser of both; ``held_out``: the error relative to that of the prior on
            the same frames, or the error without one; with a prior, ``held_out_prior`` and
            ``restarted``: 1 where disparity has collapsed, the network was set back to the prior
            and the prior's weight quadrupled.
        """
        assert isinstance(model, DepthModel)
        if not self.held_out:
            return {}
        training, device = model.training, next(model.parameters()).device
        model.eval()
        sums, count = np.zeros(3), 0
        images: list[NDArray[np.uint8]] = []
        maps: list[NDArray[np.float32]] = []
        known_maps: list[NDArray[np.float32]] = []
        for batch in self.plain_batches(device, self.held_out):
            made = model.reconstruct(batch)
            known = model.known_disparity(batch["images"][:, 1], batch["intrinsics"][:, 0])
            other = made if known is None else model.reconstruct_by([known], batch)
            known_maps += [] if known is None else [*known[:, 0].float().cpu().numpy()]
            identity = made.photometric.identity
            errors = [_explained(made), _explained(other), identity.sum()]
            sums += torch.stack(errors).double().cpu().numpy()
            count += identity.numel()
            images += [(i * 255).byte().cpu().numpy() for i in batch["images"][:, 1].movedim(1, 3)]
            maps += [*made.disparities[0][:, 0].float().cpu().numpy()]
        model.train(training)
        error, prior, identity_error = (sums / count).tolist()
        metrics = {"held_out": error, "held_out_error": error, "held_out_identity": identity_error}
        if not model.prior:
            return metrics
        metrics |= {"held_out": error / prior, "held_out_prior": prior, "restarted": 0.0}
        # Where the prior looks collapsed as well, it is the scene that is unusual.
        failed = bool(collapse(images, maps)) and not collapse(images, known_maps)
        collapsed = torch.tensor(float(failed), device=device)
        if isinstance(model.depth, StreetNet) and max_over_ranks(collapsed).item():
            model.depth.load_state_dict(model.prior[0].state_dict())
            model.raise_prior(_STRONGER)
            metrics |= {"held_out": 1.0, "held_out_error": prior, "restarted": 1.0}
        return metrics

    def finish(self, model: nn.Module) -> None:
        """The last weights stay as they are."""

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
            made = model.reconstruct({**few, "jittered": few["images"]})
        model.train(training)
        return {
            "image": few["images"][:, 1],
            "disparity": made.disparities[0][:, 0],
            "synthesised": made.photometric.synthesised,
            "automask": made.photometric.mask,
        }


def with_size(config: DepthConfig, source: FrameSource) -> DepthConfig:
    """The configuration with the training size that suits the video, where it names none.

    Raises:
        InputError: no frame can be read.
    """
    if config.height and config.width:
        return config
    (frame,) = spread_frames(source, (0, 0), 1)
    shape = frame.image.shape
    pixels = _PIXELS
    if config.height or config.width:
        scale = max(config.height / shape[0], config.width / shape[1])
        pixels = round(shape[0] * shape[1] * scale * scale)
    height, width = network_size(shape, pixels)
    return replace(config, height=config.height or height, width=config.width or width)


def _explained(made: Reconstruction) -> Tensor:
    """Sum over pixels of the lesser of the reprojection error and that of identity."""
    p = made.photometric
    return torch.where(p.mask, p.error, p.identity).sum()


def _augmented(
    loaded: Loaded, jitter: float, rng: np.random.Generator, device: torch.device
) -> dict[str, Any]:
    count = len(loaded.images)
    flipped = move(torch.from_numpy(rng.random(count) < 0.5), device)
    colours = move(colour_matrices(rng, count, jitter), device)
    # Bytes travel, floats are made where they are used.
    pixels = to_unit_float(move(loaded.images, device))
    pixels, camera = flip_horizontally(pixels, move(loaded.intrinsics, device), flipped)
    batch = {
        "images": pixels,
        "jittered": apply_colour(colours, pixels),
        "intrinsics": camera,
        "flipped": flipped,
    }
    if loaded.still is not None:
        still = move(loaded.still, device)
        batch["still"] = torch.where(flipped[:, None, None], still.flip(-1), still)
    return batch
