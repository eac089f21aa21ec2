"""Disparity from a network that learned depth on rendered streets, for the camera of any frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.depth.source import Disparity, check_disparity
from cpcdr.depth.street_net import StreetNet
from cpcdr.frames.frame import Frame
from cpcdr.geometry import MIN_DISPARITY
from cpcdr.runtime.checkpoint import read_checkpoint
from cpcdr.runtime.errors import InputError

PIXELS = 192 * 640
"""Pixels of the picture that the network sees, whatever its aspect."""


def load_street_network(folder: Path) -> StreetNet:
    """The network of a checkpoint that train_street wrote, in evaluation mode, on the CPU.

    Raises:
        InputError: files are missing or damaged, or the checkpoint is of another network.
    """
    values, weights = read_checkpoint(folder, "street")
    try:
        network = StreetNet(int(values["config"]["width"]))
        own = {k.removeprefix("network."): v for k, v in weights.items()}
        network.load_state_dict(own)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{folder}: its weights do not fit its config.yaml; give a checkpoint folder as "
            "train_street wrote it."
        ) from error
    return network.eval()


def network_size(shape: tuple[int, ...], pixels: int = PIXELS) -> tuple[int, int]:
    """Height and width in multiples of 32 near the aspect of ``shape``, about ``pixels`` in all.

    >>> network_size((540, 960)), network_size((375, 1242))
    ((256, 480), (192, 640))
    """
    scale = (pixels / (shape[0] * shape[1])) ** 0.5
    height, width = (max(64, 32 * round(side * scale / 32)) for side in shape[:2])
    return height, width


class Street:
    """Depth of any camera's frames; loaded on the first call.

    Args:
        name: the text the user gave.
        folder: a checkpoint of train_street.

    Raises:
        InputError: it is none.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        load_street_network(folder)  # what would fail in every actor fails here, once
        self._network: StreetNet | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_network": None}

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        if self._network is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            network = load_street_network(self.folder)
            self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        sizes = [network_size(frame.image.shape) for frame in frames]
        results: dict[int, Disparity] = {}
        for size in set(sizes):
            same = [i for i, s in enumerate(sizes) if s == size]
            maps = self._infer([frames[i] for i in same], size)
            results |= zip(same, maps, strict=True)
        return [
            check_disparity(results[i], f"{frame.ref.frame_id} in {self.name}")
            for i, frame in enumerate(frames)
        ]

    @torch.inference_mode()
    def _infer(self, frames: list[Frame], size: tuple[int, int]) -> list[NDArray[np.float32]]:
        assert self._network is not None
        images = np.stack(
            [cv2.resize(f.image, size[::-1], interpolation=cv2.INTER_AREA) for f in frames]
        )
        device = next(self._network.parameters()).device
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            log_size = self._network(pixels)[:, 0]
        # f/z of the picture that the network saw, over the focal length that it had there.
        focal = [f.intrinsics[0] * size[1] / f.image.shape[1] for f in frames]
        metres = torch.tensor(focal, device=device)[:, None, None]
        disparity = (log_size.exp() / metres).clamp(MIN_DISPARITY, 1.0).cpu().numpy()
        return [
            cv2.resize(d, f.image.shape[1::-1], interpolation=cv2.INTER_LINEAR)  # type: ignore[misc]
            for d, f in zip(disparity, frames, strict=True)
        ]
