"""Backbones by name: our ResNets, timm's and torchvision's networks, and modules of one's own."""

from collections.abc import Callable

from torch import nn

from cpcdr.model.backbone import IMAGENET, Backbone, FeatureMaps
from cpcdr.model.config import REGISTERED, RESNETS
from cpcdr.model.libraries import timm_backbone, torchvision_backbone
from cpcdr.model.resnet import Encoder
from cpcdr.runtime.errors import InputError


def open_backbone(name: str, width: int) -> Backbone:
    """A backbone with random weights.

    Args:
        name: as `ModelConfig.backbone`.
        width: channels of the first layer of a ResNet of ours.

    Raises:
        InputError: there is no such backbone, or it has no feature maps.
    """
    library, _, model = name.partition(":")
    if library == "timm":
        return timm_backbone(model)
    if library == "torchvision":
        return torchvision_backbone(model)
    if name in REGISTERED:
        module = REGISTERED[name]()
        return FeatureMaps(module, getattr(module, "normalisation", IMAGENET), name)
    return Encoder(name, width)


def register_backbone(name: str, build: Callable[[], nn.Module]) -> None:
    """Make ``ModelConfig(backbone=name)`` a network with the module that ``build`` returns.

    Checkpoints hold the name, so register it before loading one. Workers of Ray are processes of
    their own: use ``engine="local"``, or register it in a module that they import too.

    Args:
        build: returns a module that maps images [B, 3, H, W] to a list (or a mapping) of feature
            maps, with strides 4, 8, 16 and 32 among them. Its attribute ``normalisation`` is
            taken, else ImageNet's mean and standard deviation.

    Raises:
        InputError: the name is taken.
    """
    if name in RESNETS or ":" in name:
        raise InputError(f"backbone {name}: is a name of cpcdr's own; take another.")
    REGISTERED[name] = build
