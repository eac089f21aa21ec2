"""A backbone as a file for other code: weights under its library's names, and what to know."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from cpcdr.model.backbone import Backbone
from cpcdr.model.config import ModelConfig
from cpcdr.model.libraries import patch_of
from cpcdr.model.weights import library_state
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.errors import InputError

_LOAD = {
    "timm": "timm.create_model('{name}', num_classes=0).load_state_dict("
    "safetensors.torch.load_file('{file}'), strict=False)",
    "torchvision": "torchvision.models.get_model('{name}').load_state_dict("
    "safetensors.torch.load_file('{file}'), strict=False)",
    "safetensors": "cpcdr pretrain --model.backbone {name} --model.init {file}",
}
_SHARED = ("resnet18", "resnet34", "resnet50", "resnet101")
"""Our ResNets that timm and torchvision have under the same names, at width 64."""


def write_backbone(
    backbone: Backbone, model: ModelConfig, library: str, out: Path, about: dict[str, str]
) -> dict[str, Any]:
    """Write ``out`` (safetensors), and beside it a JSON file with what its images must be.

    Args:
        model: of the network that the backbone is of.
        library: ``timm`` or ``torchvision``, whose code shall read it; ``safetensors``: cpcdr's,
            with the pyramid of a vision transformer.
        about: what else to write down, such as where it is from.

    Returns:
        what the JSON file holds: ``model``, ``channels``, ``strides``, ``normalisation``, ``load``.

    Raises:
        InputError: the library has no such network.
    """
    plain = replace(model, normalisation="batch", padding="zeros")
    if library != "safetensors" and model != plain:
        raise InputError(
            f"--format {library}: has no network with normalisation {model.normalisation} and "
            f"padding {model.padding}; take --format safetensors."
        )
    name = model.backbone if library == "safetensors" else _name_in(library, model)
    state = {
        key: value.detach().cpu().contiguous()
        for key, value in library_state(backbone).items()
        if library == "safetensors" or not key.startswith("neck.")
    }
    normalisation, channels, strides = backbone.normalisation, backbone.channels, backbone.strides
    if library != "safetensors" and hasattr(backbone, "neck"):  # the library has a single map
        channels, strides = backbone.channels[2:3], [patch_of(backbone)]
    values = {
        "library": library,
        "model": name,
        "channels": channels,
        "strides": strides,
        "normalisation": {"mean": list(normalisation.mean), "std": list(normalisation.std)},
        "images": "float32 [N, 3, H, W], RGB in 0..1, then (images - mean) / std",
        "load": _LOAD[library].format(name=name, file=out.name),
        **about,
    }
    write_atomic(out, save(state))
    write_atomic(out.with_suffix(".json"), json.dumps(values, indent=2) + "\n")
    return values


def _name_in(library: str, model: ModelConfig) -> str:
    """The network's name in timm or torchvision."""
    kind, _, name = model.backbone.partition(":")
    if kind == library:
        return name
    if model.backbone in _SHARED and model.width == 64:
        return model.backbone
    raise InputError(
        f"--format {library}: {library} has no {model.backbone}"
        f"{'' if name else f' of width {model.width}'}; give --format safetensors, or "
        "--format timm or torchvision for a network of theirs."
    )
