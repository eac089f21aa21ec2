"""Sizes of the segmentation network."""

from dataclasses import dataclass
from typing import Literal

from cpcdr.runtime.errors import InputError

Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]

SMALLEST_SIDE = 32
"""Pixels of an image that are one place at the network's largest stride."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network.

    Attributes:
        backbone: a ResNet, randomly initialised.
        width: channels of its first layer; 64 is the published network.
        fpn_channels: channels of the feature pyramid.
        head_channels: channels of the semantic head, a multiple of 32.
        feature_dim: length of the projected, L2-normalised feature of a pixel.
        prototypes: number of prototypes K.
    """

    backbone: Backbone = "resnet50"
    width: int = 64
    fpn_channels: int = 256
    head_channels: int = 128
    feature_dim: int = 128
    prototypes: int = 1000

    def __post_init__(self) -> None:
        if self.head_channels % 32:
            raise InputError("head_channels must be a multiple of 32 (GroupNorm of 32 groups).")
        for name in ("width", "fpn_channels", "head_channels", "feature_dim", "prototypes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")


def check_size(size: tuple[int, int], option: str = "--size", zeros: str = "whole frames") -> None:
    """Refuse a size that is too small for the network; 0 0 means ``zeros``.

    Raises:
        InputError: a side below the largest stride of the network, unless both are 0.
    """
    if any(size) and min(size) < SMALLEST_SIDE:
        raise InputError(
            f"{option} {size[0]} {size[1]} is too small: give a height and a width of at least "
            f"{SMALLEST_SIDE} pixels, or 0 0 for {zeros}."
        )
