"""What a network starts from: weights of its backbone from files, checkpoints and the hub."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from cpcdr.model.backbone import Backbone
from cpcdr.model.config import RESNETS, absolute_start
from cpcdr.model.libraries import timm_weights
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.runtime.checkpoint import read_checkpoint, weights_digest
from cpcdr.runtime.durable import file_digest
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.models import find_checkpoint

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")


def find_start(start: str, backbone: str) -> str:
    """Where the weights that training starts from lie, downloaded if need be.

    Args:
        start: ``""`` or ``scratch``; a file of safetensors; a checkpoint or run folder,
            ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``; or ``timm``.
        backbone: as `ModelConfig.backbone`.

    Returns:
        absolute path of a file or a checkpoint folder; ``""``: random weights.

    Raises:
        InputError: there are no such weights, or they would have to be unpickled.
    """
    if start in ("", "scratch"):
        return ""
    if start == "timm":
        library, _, name = backbone.partition(":")
        if library != "timm":
            raise InputError(
                f"the start timm: {backbone} is not a network of timm; give the backbone as "
                "timm:NAME, or a file of its weights."
            )
        return timm_weights(name)
    path = Path(start).expanduser()
    if path.suffix in _PICKLES:
        raise InputError(
            f"{path}: is a pickle, which may run code when it is loaded; where you trust it, save "
            "its tensors by safetensors.torch.save_file and give that file."
        )
    if path.suffix == ".safetensors" and not path.is_file():
        raise InputError(f"{path}: there is no such file; give weights on disk, or none.")
    return str((path if path.is_file() else find_checkpoint(start)).absolute())


def named_start(start: str, path: str) -> str:
    """A start as it is recorded: what a local path led to, else as it was given."""
    local = Path(absolute_start(start)).is_absolute()
    return path if local and absolute_start(start) != path else start


def start_digest(path: str) -> str:
    """What the weights are that `find_start` found; ``""`` for random ones."""
    if not path:
        return ""
    return weights_digest(Path(path)) if Path(path).is_dir() else file_digest(Path(path))[:16]


def load_backbone(network: SegmentationNetwork, path: str) -> str:
    """Load the weights of the backbone; those of a classifier or of our other parts are left.

    Names are those of the backbone's library, whatever is put before them.

    Args:
        path: of `find_start`.

    Returns:
        a sentence on what was loaded.

    Raises:
        InputError: they are of another network, or damaged.
    """
    tensors, label = _read(Path(path)), label_of(network)
    state = library_state(network.backbone)
    prefix = _prefix(tensors, list(state))
    loaded = 0
    used: set[str] = set()
    for name, value in state.items():
        # Our checkpoints hold new layers beside the body, not in it.
        near = prefix.removesuffix("body.") if name.startswith("neck.") else prefix
        given = tensors.get(f"{near}{name}")
        if given is None:
            if name.startswith("neck.") or name.endswith("num_batches_tracked"):
                continue
            raise InputError(
                f"{path}: has no tensor '{name}' of {label}; give weights of that network, or the "
                "backbone (and width) that they are of."
            )
        if given.shape != value.shape:
            raise InputError(
                f"{path}: its '{near}{name}' has shape {list(given.shape)}, which in {label} is "
                f"{list(value.shape)}; give the backbone (and width) that it is of."
            )
        value.copy_(given)
        used.add(f"{near}{name}")
        loaded += 1
    left = [name for name in tensors if name not in used]
    rest = f"; left out: {len(left)}, such as {left[0]}" if left else ""
    return f"{path}: {loaded} tensors loaded into the backbone {label}{rest}."


def loaded_weights(network: SegmentationNetwork) -> dict[str, Tensor]:
    """Copies of what `load_backbone` gave the backbone; a pyramid of ours is not of it."""
    state = network.backbone.state_dict()
    given = {k: v for k, v in state.items() if v.is_floating_point() and not k.startswith("neck.")}
    return {name: value.cpu().clone() for name, value in given.items()}


@torch.no_grad()
def interpolate_backbone(
    network: SegmentationNetwork, start: Mapping[str, Tensor], fraction: float
) -> None:
    """Put the backbone on the straight line between what it started from and what it is.

    The backbone keeps what it knew and takes over what it has learned, often better than at either
    end (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, whose alpha this is).

    Args:
        start: of `loaded_weights`.
        fraction: 0 is the start, 1 leaves the backbone as it is.
    """
    state = network.backbone.state_dict()
    for name, first in start.items():
        state[name].copy_(first.to(state[name]).lerp(state[name], fraction))


def library_state(backbone: Backbone) -> dict[str, Tensor]:
    """Weights of a backbone under the names of its library; a pyramid of ours under ``neck.``."""
    return {k.removeprefix("body."): v for k, v in backbone.state_dict().items()}


def label_of(network: SegmentationNetwork) -> str:
    """The backbone's name, with the width of a ResNet of ours."""
    name, width = network.config.backbone, network.config.width
    return f"{name} of width {width}" if name in RESNETS else name


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        return read_checkpoint(path, "pretrain", "finetune", "probe")[1]
    try:
        return load_file(path)
    except Exception as error:  # safetensors has its own error class, and raises OSError too
        raise InputError(
            f"{path}: is not a file of safetensors; save the weights by "
            "safetensors.torch.save_file, or download them again."
        ) from error


def _prefix(tensors: Mapping[str, Tensor], names: list[str]) -> str:
    """What precedes most of the names in a file, such as ``network.backbone.``."""
    first = names[0]
    found = [k.removesuffix(first) for k in tensors if k == first or k.endswith(f".{first}")]
    return max(found, key=lambda prefix: sum(prefix + n in tensors for n in names), default="")
