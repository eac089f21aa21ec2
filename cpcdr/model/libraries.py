"""Networks of timm and torchvision as backbones.

Both libraries are imported where a network of theirs is asked for.
"""

import difflib
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.model.backbone import IMAGENET, STRIDES, FeatureMaps, Normalisation, cells
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.extras import install_command

_MIDDLE = 16
"""Stride of the one map of a vision transformer, once images are scaled to its patches."""


class TimmMaps(FeatureMaps):
    """A network of timm with maps of several strides; ``body`` has timm's parameter names."""

    body: Any

    def maps(self, images: Tensor) -> list[Tensor]:
        """The outputs of its stages."""
        return self.body.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")


class TransformerMaps(FeatureMaps):
    """A network of timm with a single stride, such as a ViT, under a simple feature pyramid.

    Images are scaled so that a patch is one of 16 pixels, whatever the size of its patches.
    """

    body: Any

    def maps(self, images: Tensor) -> list[Tensor]:
        """The last block's normalised output, at strides 4, 8, 16, 32."""
        return self.neck(self._outputs(images, 1, True)[0])

    def steps(self, images: Tensor) -> list[Tensor]:
        """The output after each quarter of the blocks."""
        blocks = len(self.body.feature_info)
        quarters = [blocks * i // 4 - 1 for i in (1, 2, 3)]
        return [*self._outputs(images, quarters, False), *self._outputs(images, 1, True)]

    def _outputs(self, images: Tensor, indices: int | list[int], norm: bool) -> list[Tensor]:
        patch = patch_of(self)
        if patch != _MIDDLE:
            height, width = (cells(side, _MIDDLE) * patch for side in images.shape[-2:])
            images = functional.interpolate(images, (height, width), mode="bilinear")
        return self.body.forward_intermediates(
            images, indices=indices, norm=norm, intermediates_only=True, output_fmt="NCHW"
        )


class SimplePyramid(nn.Module):
    """One map of stride 16 to strides 4, 8, 16, 32 (Li et al., "ViTDet", ECCV 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = max(1, channels // 2), max(1, channels // 4)
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, stride=2),
            nn.GroupNorm(1, half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        )
        self.up2 = nn.ConvTranspose2d(channels, half, 2, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.up4(x), self.up2(x), x, functional.max_pool2d(x, 2, ceil_mode=True)]


def timm_backbone(name: str) -> FeatureMaps:
    """The network ``name`` of timm with random weights, of images of any size.

    Raises:
        InputError: timm is missing, has no such network, or it has no feature maps.
    """
    model = _timm_model(name)
    config = model.pretrained_cfg
    normalisation = Normalisation(tuple(config["mean"]), tuple(config["std"]))
    reductions = _reductions(model)
    if len({*reductions}) > 1 or len(reductions) < len(STRIDES):
        model.prune_intermediate_layers(list(range(len(reductions))), prune_norm=True)
        return TimmMaps(model, normalisation, f"timm:{name}")
    model.prune_intermediate_layers(1, prune_norm=False)
    info = model.feature_info[-1]
    pyramid = SimplePyramid(info.get("num_chs_norm", info["num_chs"]))
    return TransformerMaps(model, normalisation, f"timm:{name}", pyramid)


def patch_of(backbone: nn.Module) -> int:
    """Stride of the maps of a vision transformer, in pixels of the image that it sees."""
    assert isinstance(backbone, TransformerMaps)
    return _reductions(backbone.body)[0]


def timm_weights(name: str) -> str:
    """Path of the published weights of a network of timm, downloaded from the Hugging Face hub.

    Raises:
        InputError: they cannot be had as safetensors.
    """
    timm = import_timm(name)
    config = timm.get_pretrained_cfg(name)
    try:
        from huggingface_hub import hf_hub_download

        return hf_hub_download(config.hf_hub_id, "model.safetensors")
    except Exception as error:  # the hub's client raises what its transports raise
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"timm:{name}: its weights cannot be downloaded ({text}); give a file of them, "
            "--model.init FILE.safetensors."
        ) from error


def import_timm(name: str) -> Any:
    """The package timm.

    Raises:
        InputError: it is not installed, or has no network ``name``.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(f"timm:{name} needs timm: {install_command('timm')}.") from error
    try:
        known = timm.is_model(name) and timm.get_pretrained_cfg(name) is not None
    except RuntimeError:  # it has no weights of this tag
        known = False
    if not known:
        raise _unknown("timm", name, [*timm.list_models(), *timm.list_pretrained()])
    return timm


def torchvision_backbone(name: str) -> FeatureMaps:
    """The network ``name`` of torchvision with random weights.

    Raises:
        InputError: there is no such network, or it has no feature maps.
    """
    from torchvision import models
    from torchvision.models.feature_extraction import create_feature_extractor

    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    model = models.get_model(name, weights=None)
    nodes = _last_of_each_stride(model, name)
    body = create_feature_extractor(model, nodes, suppress_diff_warning=True)
    preset = models.get_model_weights(name)["DEFAULT"].transforms()
    mean, std = (getattr(preset, n, getattr(IMAGENET, n)) for n in ("mean", "std"))
    return FeatureMaps(body, Normalisation(tuple(mean), tuple(std)), f"torchvision:{name}")


def _timm_model(name: str) -> Any:
    timm = import_timm(name)
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    # Transformers take images of one size unless told otherwise, each family in its own words.
    any_size: list[dict[str, bool]] = [{"dynamic_img_size": True}, {"strict_img_size": False}]
    for options in [*(any_size if fixed else []), {}]:
        try:
            model = timm.create_model(name, num_classes=0, **options)
            break
        except TypeError:
            continue
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
        raise InputError(f"timm:{name}: has no feature maps; give another --model.backbone.")
    return model


def _reductions(model: Any) -> list[int]:
    """Strides of a timm network's maps."""
    return [info["reduction"] for info in model.feature_info]


def _last_of_each_stride(model: nn.Module, name: str) -> dict[str, str]:
    """Names of the stages of a torchvision network whose outputs are the last of their stride.

    Stages are its children and the children of its sequences: what lies inside a block changes
    channels at other places than strides.
    """
    stages = dict(model.named_children())
    for parent, child in model.named_children():
        if isinstance(child, nn.Sequential):
            stages |= {f"{parent}.{n}": grandchild for n, grandchild in child.named_children()}
    height, width = 2 * STRIDES[-1], 3 * STRIDES[-1]
    found: dict[int, str] = {}

    def note(stage: str, output: Any) -> None:
        for stride in STRIDES:
            size = (height // stride, width // stride)
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:] == size:
                found[stride] = stage

    hooks = [
        module.register_forward_hook(lambda _, __, output, stage=stage: note(stage, output))
        for stage, module in stages.items()
    ]
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, height, width, device=device))
    except (RuntimeError, AssertionError):
        found.clear()  # a network of images of one size
    for hook in hooks:
        hook.remove()
    model.train()
    if len(found) < len(STRIDES):
        raise InputError(
            f"torchvision:{name}: has no feature maps of strides 4, 8, 16 and 32; give another "
            "--model.backbone."
        )
    return {found[stride]: str(stride) for stride in STRIDES}


def _unknown(library: str, name: str, known: Collection[str]) -> InputError:
    near = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"is it {', '.join(near)}?" if near else f"see {library}.list_models()."
    return InputError(f"{library}:{name}: {library} has no such network; {hint}")
