"""Configuration of both depth trainings, and the source of depth where none is given."""

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from cpcdr.model.config import ResNet
from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class DepthConfig:
    """Self-supervised depth training.

    Attributes:
        start: what the depth network starts from: ``street`` (the network in this package),
            ``street:FILE`` (weights by cpcdr train-street), or ``scratch`` (random weights of
            ``backbone`` and ``channels``).
        prior: weight of staying near the network of ``start`` (``street`` for ``scratch``) where
            the video does not determine depth; 0 for the photometric loss alone, with which depth
            may collapse on video of little texture.
        backbone: the depth encoder, from scratch.
        channels: channels of the pose network's first layer, and of the depth encoder's from
            scratch; 64 is the published network.
        height: of the training size in pixels, a multiple of 32; frames are scaled to cover it and
            cropped about the centre. 0 follows from the width and the video's aspect; both 0 make
            about 61 000 pixels of it.
        width: of the training size, as ``height``.
        batch_size: triplets per step on each GPU (or process).
        intrinsics: ``known`` uses the frames' own; ``learn`` trains one focal length and principal
            point for all frames with the networks.
        alignment_steps: Gauss-Newton steps per pyramid level that refine the predicted motions
            photometrically; depth trains on the refined motions, and the pose network is trained
            towards them. 0 uses predicted motions (Monodepth2).
        smoothness: weight of the smoothness term at the finest scale, halved at each coarser one.
        jitter: fraction of triplets with colour jitter on the network inputs.
        spacing: frames between neighbours of a triplet; several values yield triplets of each. Far
            points need a wide baseline, near points leave the image under one: if the camera moves
            little per frame (slow, or well above ten frames per second), they should lie further
            apart. Repeating a spacing weights it. Without any, it follows from the video's motion.
        min_motion: triplets with less mean optical flow, as a fraction of the image width, are
            skipped.
        cache_mib: memory for decoded frames per process, in MiB.
        readers: reader threads.
    """

    start: str = "street"
    prior: float = 0.05
    backbone: ResNet = "resnet18"
    channels: int = 64
    height: int = 0
    width: int = 0
    batch_size: int = 12
    intrinsics: Literal["known", "learn"] = "known"
    alignment_steps: int = 3
    smoothness: float = 1e-3
    jitter: float = 0.5
    spacing: tuple[int, ...] = ()
    min_motion: float = 0.001
    cache_mib: int = 2048
    readers: int = 4

    def __post_init__(self) -> None:
        kind, _, file = self.start.partition(":")
        if kind not in ("street", "scratch") or (kind == "scratch" and file):
            raise InputError(
                f"--depth.start {self.start} is unknown: give street, street:FILE or scratch."
            )
        if not 0 <= self.prior < math.inf:
            raise InputError("--depth.prior must be at least 0.")
        sides = [side for side in (self.height, self.width) if side]
        if any(side < 64 or side > 8192 or side % 32 for side in sides):
            raise InputError(
                f"A depth training size of {self.height}×{self.width} is not supported: "
                "give multiples of 32 in 64..8192, or 0 for what follows from the video."
            )
        if min(self.spacing, default=1) < 1:
            raise InputError("--depth.spacing takes numbers of at least 1.")
        counts = ("channels", "batch_size", "cache_mib", "readers")
        if min(getattr(self, name) for name in counts) < 1:
            named = [f"--depth.{name.replace('_', '-')}" for name in counts]
            raise InputError(f"{', '.join(named[:-1])} and {named[-1]} must be at least 1.")
        if self.alignment_steps < 0:
            raise InputError("--depth.alignment-steps must be 0 or more.")


PUBLISHED = DepthConfig("scratch", 0.0, height=192, width=640, spacing=(1,))
"""Monodepth2's: random weights and the photometric loss alone."""
TINY = replace(PUBLISHED, channels=16, height=96, width=192, batch_size=8)
"""A narrow one that learns a synthetic street in minutes on two CPU cores."""
SMALL = DepthConfig(channels=16, batch_size=4)
"""From the network in this package, in minutes on two CPU cores."""


@dataclass(frozen=True)
class StreetConfig:
    """Supervised depth training on rendered streets.

    Attributes:
        channels: of the network's first layer.
        shots: rendered shots of an epoch; kept in memory (300 kB each) and augmented anew in each.
        batch_size: shots a step on each GPU (or process).
    """

    channels: int = 24
    shots: int = 12000
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.channels < 16:
            # With 8, PyTorch 2 on a CPU writes past its memory in the backward pass.
            raise InputError("--street.channels must be at least 16.")
        if self.batch_size < 1 or self.shots < 2 * self.batch_size:
            raise InputError("--street.shots must fill two batches of --street.batch-size.")


def default_depth(frames: str) -> str:
    """The source of depth where none is given: exact on the synthetic street, else ``street``."""
    kinds = re.findall(r"(?:^|,)\s*([a-z-]+):", frames)
    synthetic = set(kinds) <= {"synthetic"}
    return "ground-truth" if synthetic else "street"
