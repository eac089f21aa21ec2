"""Sizes of the segmentation network, and how its backbone starts and trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from cpcdr.runtime.errors import InputError

if TYPE_CHECKING:
    from torch import nn

ResNet = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
RESNETS = get_args(ResNet)

SMALLEST_SIDE = 32
"""Pixels of an image that are one place at the network's largest stride."""

HOW = ("init", "freeze", "norm", "backbone_lr", "stage_decay", "interpolate")
"""Fields of `ModelConfig` that say how a network is trained, not what it is."""

REGISTERED: dict[str, Callable[[], nn.Module]] = {}
"""Backbones of the user's own, by name; see `cpcdr.model.backbones.register_backbone`."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network, and how its backbone starts and trains.

    Attributes:
        backbone: resnet10, resnet18, resnet34, resnet50 or resnet101; ``timm:NAME`` or
            ``torchvision:NAME``, any network of theirs with feature maps.
        width: channels of the first layer of a ResNet without prefix; 64 is the published network.
        fpn_channels: channels of the feature pyramid.
        head_channels: channels of the semantic head, a multiple of 32.
        feature_dim: length of the projected, L2-normalised feature of a pixel.
        prototypes: number of prototypes K.
        init: what the backbone starts from: empty for random weights; a file of safetensors; a
            checkpoint folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``; or ``timm``, which
            downloads the weights of a ``timm:`` backbone.
        freeze: stages of the backbone that keep their weights, 0 to 4 from the first; a stage ends
            at stride 4, 8, 16 or 32, in a vision transformer at each quarter of its blocks.
        norm: statistics of batch normalisation: ``batch`` follows the batches of training;
            ``clean`` also re-estimates them, before each checkpoint of a pre-training, on frames
            that nothing is pasted into; ``separate`` keeps those of mixed images without pastes,
            which are normalised apart from the others; ``frozen`` keeps the backbone's as they came
            with ``init``.
        backbone_lr: learning rate of the backbone relative to that of the rest.
        stage_decay: learning rate of a stage of the backbone relative to that of the next one.
        interpolate: how far on the way from ``init`` to the weights that pre-training reached the
            backbone ends: 1 there, 0.5 halfway, which can know more than either (Wortsman et
            al., 2022). Statistics of batch normalisation are then re-estimated on clean frames.
        normalisation: ``group`` puts group normalisation in the place of batch normalisation.
        padding: what convolutions see beyond the image; zeros tell features where they are.
    """

    backbone: str = "resnet50"
    width: int = 64
    fpn_channels: int = 256
    head_channels: int = 128
    feature_dim: int = 128
    prototypes: int = 1000
    init: str = ""
    freeze: int = 0
    norm: Literal["batch", "clean", "separate", "frozen"] = "batch"
    backbone_lr: float = 1.0
    stage_decay: float = 1.0
    interpolate: float = 1.0
    normalisation: Literal["batch", "group"] = "batch"
    padding: Literal["zeros", "replicate"] = "zeros"

    def __post_init__(self) -> None:
        if self.head_channels % 32:
            raise InputError("head_channels must be a multiple of 32 (GroupNorm of 32 groups).")
        for name in ("width", "fpn_channels", "head_channels", "feature_dim", "prototypes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")
        self._check_backbone()
        # Workers and later commands have working folders of their own.
        object.__setattr__(self, "init", absolute_start(self.init))

    def _check_backbone(self) -> None:
        kind, colon, name = self.backbone.partition(":")
        library = kind in ("timm", "torchvision") and colon and name
        if not library and self.backbone not in (*RESNETS, *REGISTERED):
            names = ", ".join((*RESNETS, *REGISTERED))
            raise InputError(
                f"backbone must be one of {names}, timm:NAME or torchvision:NAME, "
                f"not '{self.backbone[:80]}'."
            )
        if not 0 <= self.freeze <= 4:
            raise InputError(f"freeze must be 0 to 4 stages, not {self.freeze}.")
        if not self.backbone_lr > 0 or not 0 < self.stage_decay <= 1:
            raise InputError("backbone_lr must be above 0, and stage_decay above 0 and at most 1.")
        if not 0 < self.interpolate <= 1:
            raise InputError(f"interpolate must be above 0 and at most 1, not {self.interpolate}.")
        if self.interpolate < 1 and self.init in ("", "scratch"):
            raise InputError("interpolate needs pretrained weights to start from; give init.")


def absolute_start(start: str) -> str:
    """What a network starts from, with a path made absolute.

    >>> absolute_start("timm"), absolute_start("runs:/0af3"), absolute_start("/a/b.safetensors")
    ('timm', 'runs:/0af3', '/a/b.safetensors')
    """
    if start in ("", "scratch", "timm") or start.startswith(("runs:/", "models:/")):
        return start
    return str(Path(start).expanduser().absolute())


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
