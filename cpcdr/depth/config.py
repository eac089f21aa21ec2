"""Sizes and settings of the self-supervised depth training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from cpcdr.model.config import Backbone
from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class DepthConfig:
    """Self-supervised depth training.

    Attributes:
        backbone: the depth encoder.
        channels: channels of both networks' first layers; 64 is the published network.
        height, width: training size in pixels, multiples of 32; frames are scaled to cover it and
            cropped about the centre.
        batch_size: triplets a step on each GPU (or process).
        intrinsics: ``known`` takes the frames' own; ``learn`` fits one focal length and principal
            point for all frames together with the networks.
        alignment_steps: Gauss-Newton steps, at each of some image sizes, that make the pose
            network's motions fit the images, given depth; depth learns from these motions, and the
            pose network learns them. 0: the network's motions as they are (Monodepth2).
        smoothness: weight of the smoothness term at the finest scale, halved at each coarser one.
        jitter: share of the triplets whose colours are jittered before the networks see them.
        spacing: frames from one of a triplet's three to the next; several numbers make triplets of
            each. What is far is told apart only by a wide view, what is near moves out of it: where
            the camera moves little from frame to frame (slow, or more than some ten frames a
            second), ``1 2`` or ``1 3`` learns both. A number that is given twice counts twice.
        min_motion: triplets with less optical flow than this (mean length, as a share of the image
            width) show no motion and are skipped.
        cache_mib: memory for decoded frames in each process.
        readers: threads that read frames.
        seed: of order and augmentation.
    """

    backbone: Backbone = "resnet18"
    channels: int = 64
    height: int = 192
    width: int = 640
    batch_size: int = 12
    intrinsics: Literal["known", "learn"] = "known"
    alignment_steps: int = 3
    smoothness: float = 1e-3
    jitter: float = 0.5
    spacing: tuple[int, ...] = (1,)
    min_motion: float = 0.001
    cache_mib: int = 2048
    readers: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.backbone not in get_args(Backbone):
            known = ", ".join(get_args(Backbone))
            raise InputError(f"--depth.backbone {self.backbone} is unknown: take one of {known}.")
        if self.intrinsics not in ("known", "learn"):
            raise InputError(
                f"--depth.intrinsics {self.intrinsics} is unknown: take known or learn."
            )
        if self.height < 64 or self.width < 64 or self.height % 32 or self.width % 32:
            raise InputError(
                f"A depth training size of {self.height}×{self.width} does not work: "
                "give multiples of 32, at least 64."
            )
        if not self.spacing or min(self.spacing) < 1:
            raise InputError("--depth.spacing takes one or more numbers, each at least 1.")
        counts = ("channels", "batch_size", "cache_mib", "readers")
        if min(getattr(self, name) for name in counts) < 1:
            named = [f"--depth.{name.replace('_', '-')}" for name in counts]
            raise InputError(f"{', '.join(named[:-1])} and {named[-1]} must be at least 1.")
        if self.alignment_steps < 0:
            raise InputError("--depth.alignment-steps must be 0 or more.")


TINY = DepthConfig(channels=16, height=96, width=192, batch_size=8)
"""A network that learns a synthetic street in minutes on two CPU cores."""
