"""Disparity from a network trained by `train_depth`."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cpcdr.depth.batches import focal_lengths, image_batch, infer_by_size
from cpcdr.depth.camera import LearnedCamera
from cpcdr.depth.config import PUBLISHED, DepthConfig
from cpcdr.depth.model import DepthModel
from cpcdr.depth.source import DepthError, Disparity, check_disparity
from cpcdr.frames.frame import Frame
from cpcdr.geometry import MIN_DISPARITY
from cpcdr.runtime.checkpoint import load_module, read_checkpoint
from cpcdr.runtime.config import overlay
from cpcdr.runtime.device import default_device, half_on_gpu
from cpcdr.runtime.errors import InputError


def load_depth_network(folder: Path | str) -> DepthModel:
    """The model of a depth training checkpoint, in evaluation mode, on the CPU.

    Raises:
        InputError: missing files, a checkpoint of another kind, or damaged weights.
    """
    values, weights = read_checkpoint(Path(folder), "depth")
    fields = DepthConfig.__dataclass_fields__
    try:
        options = {k: v for k, v in values["config"].items() if k in fields}
        spacing = options.pop("spacing", 1)  # YAML holds a list or one number, not a tuple
        spacing = (spacing,) if isinstance(spacing, int) else tuple(spacing)
        options["spacing"] = list(spacing)
        # A configuration without ``start`` is one of training from scratch.
        config = overlay(PUBLISHED, options, str(Path(folder) / "config.yaml"))
        channels = _street_channels(weights) if config.start != "scratch" else 0
        model = load_module(lambda: DepthModel(config, channels), weights)
    except (RuntimeError, TypeError, KeyError) as error:
        raise InputError(
            f"{folder}: the weights do not fit the network in config.yaml; give an "
            "unmodified checkpoint folder of depth training."
        ) from error
    return model.eval()


def _street_channels(weights: dict[str, Tensor]) -> int:
    """Channels of the network that a training started from, by its last layer."""
    return 2 * weights["depth.head.weight"].shape[1]


def learned_camera(model: DepthModel) -> LearnedCamera | None:
    """The camera that a network on the CPU learned; None if it was trained with known ones."""
    config = model.config
    if config.intrinsics != "learn":
        return None
    size = (config.height, config.width)
    frame = {"images": torch.empty(1, 3, *size), "flipped": torch.zeros(1, dtype=torch.bool)}
    fx, fy, cx, cy = model.camera(frame)[0].tolist()
    return LearnedCamera((fx, fy, cx, cy), size)


class Network:
    """Disparity from a trained `DepthNet`, on the GPU if available.

    Weights are loaded on the first call: pickles hold only the folder's name.

    Attributes:
        metrics: last metrics of its training.
        camera: the one learned with depth, if any.

    Raises:
        InputError: it is not a checkpoint of depth training.
    """

    def __init__(self, name: str, folder: Path) -> None:
        values, _ = read_checkpoint(folder, "depth")
        self.name = name
        self.metrics: dict[str, float] = values.get("metrics") or {}
        self.folder = folder
        model = load_depth_network(folder)  # fail here rather than in every actor
        self.camera = learned_camera(model)
        self._model: DepthModel | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_model": None}

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        if self._model is None:
            self._model = load_depth_network(self.folder).to(default_device())
        config = self._model.config
        maps = infer_by_size(
            frames, lambda frame: _network_size(frame.image.shape[:2], config), self._infer
        )
        return [
            _check_network(disparity, f"{frame.ref.frame_id} in {self.name}")
            for frame, disparity in zip(frames, maps, strict=True)
        ]

    @torch.inference_mode()
    def _infer(self, frames: list[Frame], size: tuple[int, int]) -> list[Disparity]:
        assert self._model is not None
        device = next(self._model.parameters()).device
        pixels = image_batch(frames, size, device)
        # Half precision where it is fast; the network's last step is float32 regardless.
        with half_on_gpu(device):
            focal = focal_lengths(frames, size, device)
            disparities = self._model.disparities(pixels, focal)[0].float()
            disparities = disparities.clamp(MIN_DISPARITY, 1.0)
        return [
            functional.interpolate(d[None], f.image.shape[:2], mode="bilinear")[0, 0].cpu().numpy()
            for d, f in zip(disparities, frames, strict=True)
        ]


def _check_network(disparity: NDArray, what: str) -> Disparity:
    # Untrained networks output a slope over the rows: no more than that ignores the image.
    if float(np.ptp(disparity, axis=1).max()) < 1e-3 * float(disparity.mean()):
        raise DepthError(
            f"{what}: disparity is constant along every row, the network has collapsed: train it "
            "longer, on more video or with another seed, or take --depth street."
        )
    return check_disparity(disparity, what)


def _network_size(shape: tuple[int, ...], config: DepthConfig) -> tuple[int, int]:
    """Input size (H, W) of a whole frame at the training scale, in multiples of 32."""
    scale = max(config.height / shape[0], config.width / shape[1])
    height, width = (max(32, 32 * round(side * scale / 32)) for side in shape)
    return height, width
