"""Disparity from a network that learned depth on rendered streets, for the camera of any frame."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cpcdr.depth.batches import focal_lengths, image_batch, infer_by_size
from cpcdr.depth.source import Disparity, check_disparity
from cpcdr.depth.street_net import StreetNet
from cpcdr.frames.frame import Frame
from cpcdr.geometry import MIN_DISPARITY
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.device import default_device, half_on_gpu
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.training_folder import refuse_unfinished

PACKAGED = Path(__file__).with_name("street.safetensors")
"""The weights in this package."""
PIXELS = 192 * 640
"""Pixels of the image that the network gets, whatever its aspect."""


def save_street_network(path: Path, network: StreetNet) -> None:
    """Write the weights as float16, with what rebuilds the network."""
    weights = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    write_atomic(path, save(tensors, {"street": json.dumps({"channels": network.channels})}))


def street_file(spec: str) -> Path:
    """The file of weights that ``street`` or ``street:FILE`` names; the packaged one by default.

    Raises:
        InputError: the training that is to write it is unfinished.
    """
    argument = spec.partition(":")[2]
    if not argument:
        return PACKAGED
    path = Path(argument).expanduser().absolute()
    if not path.exists():
        refuse_unfinished(path.parent)
    return path


def load_street_network(path: Path) -> StreetNet:
    """The network of a file by `save_street_network`, in evaluation mode, on the CPU.

    Raises:
        InputError: the file is missing or damaged, or holds another network.
    """
    try:
        with safe_open(path, "pt") as file:
            channels = json.loads((file.metadata() or {})["street"])["channels"]
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = StreetNet(channels)
        network.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path}: is no file of weights by cpcdr train-street, or it is damaged; give another "
            "in --depth street:FILE, or --depth street for the weights in this package."
        ) from error
    return network.float().eval()


def network_size(shape: tuple[int, ...], pixels: int = PIXELS) -> tuple[int, int]:
    """Height and width in multiples of 32 near the aspect of ``shape``, about ``pixels`` in all.

    >>> network_size((540, 960)), network_size((375, 1242))
    ((256, 480), (192, 640))
    """
    scale = (pixels / (shape[0] * shape[1])) ** 0.5
    height, width = (max(64, 32 * round(side * scale / 32)) for side in shape[:2])
    return height, width


class Street:
    """Depth in metres of any camera's frames; loaded on the first call: pickles hold only names.

    Args:
        name: what the user specified.
        file: weights by `save_street_network`.

    Raises:
        InputError: it holds none.
    """

    def __init__(self, name: str, file: Path) -> None:
        self.name, self.file = name, file
        load_street_network(file)  # fail here rather than in every actor
        self._network: StreetNet | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_network": None}

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        if self._network is None:
            network = load_street_network(self.file).to(default_device())
            self._network = network.to(memory_format=torch.channels_last)
        maps = infer_by_size(frames, lambda frame: network_size(frame.image.shape), self._infer)
        return [
            check_disparity(disparity, f"{frame.ref.frame_id} in {self.name}")
            for frame, disparity in zip(frames, maps, strict=True)
        ]

    @torch.inference_mode()
    def _infer(self, frames: list[Frame], size: tuple[int, int]) -> list[Disparity]:
        assert self._network is not None
        device = next(self._network.parameters()).device
        pixels = image_batch(frames, size, device)
        with half_on_gpu(device):
            log_size = self._network(pixels)[:, 0]
        disparity = log_size.exp() / focal_lengths(frames, size, device)[:, None, None]
        maps = disparity.clamp(MIN_DISPARITY, 1.0).cpu().numpy()
        return [
            np.asarray(cv2.resize(d, f.image.shape[1::-1], interpolation=cv2.INTER_LINEAR))
            for d, f in zip(maps, frames, strict=True)
        ]
