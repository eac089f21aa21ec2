"""Where a frame's disparity comes from: exact, stored as PNG files, or a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cpcdr.checkpoint import read_checkpoint
from cpcdr.depth.model import DepthConfig, DepthModel
from cpcdr.errors import FrameError, InputError
from cpcdr.frames.frame import Frame

Disparity = NDArray[np.float32]
"""[H, W] in (0, 1], 0 = invalid; depth is 1 / max(disparity, 0.005)."""


class DepthSource(Protocol):
    """A picklable callable: Ray sends it to the actors that estimate depth.

    Attributes:
        name: the text the user gave.
    """

    name: str

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        """One disparity map a frame, of the size of its image.

        Raises:
            FrameError: of the first frame without a usable one, ``stage`` is ``depth``; the others
                may be good, so callers that go on try the frames one by one.
        """


def open_depth(spec: str) -> DepthSource:
    """The depth source that a user named.

    Args:
        spec: ``ground-truth``, ``precomputed:ROOT`` or ``network:CHECKPOINT``.

    Raises:
        InputError: unknown kind, missing folder, or not a checkpoint of depth training.
    """
    kind, _, argument = spec.partition(":")
    if kind == "ground-truth" and not argument:
        return GroundTruth()
    if kind == "precomputed":
        return Precomputed(spec, _existing_folder(kind, argument))
    if kind == "network":
        return Network(spec, _existing_folder(kind, argument))
    raise InputError(
        f"--depth {spec} is unknown: give ground-truth, precomputed:ROOT (16-bit PNG files) or "
        "network:CHECKPOINT (a folder written by depth training)."
    )


def _existing_folder(kind: str, argument: str) -> Path:
    folder = Path(argument).expanduser().absolute()
    if not argument or not folder.is_dir():
        raise InputError(f"{kind}:{argument} is not a folder: give the path of one.")
    return folder


def check_disparity(disparity: NDArray, what: str) -> Disparity:
    """The map as float32, after refusing what would silently ruin everything downstream.

    Raises:
        FrameError: not finite, outside [0, 1], without a valid pixel, or constant.
    """
    disparity = np.ascontiguousarray(disparity, np.float32)
    if not np.isfinite(disparity).all():
        raise FrameError(f"{what}: disparity has values that are not finite: remake it.", "depth")
    low, high = float(disparity.min()), float(disparity.max())
    if low < 0 or high > 1:
        raise FrameError(
            f"{what}: disparity is in {low:.3g}..{high:.3g}, not in 0..1: rescale it.", "depth"
        )
    valid = disparity[disparity > 0]
    if valid.size == 0:
        raise FrameError(f"{what}: disparity is 0 (invalid) everywhere: remake it.", "depth")
    if float(valid.std()) < 1e-3 * float(valid.mean()):
        raise FrameError(
            f"{what}: disparity is the constant {valid.mean():.4g}, the network behind it has "
            "collapsed or the scene is blank: remake it or leave the frame out.",
            "depth",
        )
    return disparity


class GroundTruth:
    """The exact disparity that some sources of frames know, such as the synthetic street."""

    name = "ground-truth"

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        return [self._of(frame) for frame in frames]

    def _of(self, frame: Frame) -> Disparity:
        if frame.disparity is None:
            raise FrameError(
                f"{frame.ref.frame_id}: {frame.source} knows no exact depth: train a network and "
                "give --depth network:CHECKPOINT.",
                "depth",
            )
        return check_disparity(frame.disparity, frame.ref.frame_id)


class Precomputed:
    """Disparity in 16-bit PNG files, value / 65535, 0 = invalid.

    A frame's file is the first that exists of, under ROOT and under ROOT/disp,
    ``{sequence}/{frame_index:08d}.png``, ``{sequence}/{stem}.png`` and ``{stem}.png``, where
    ``stem`` is the name of the frame's image file without its ending.

    Args:
        name: the text the user gave.
        root: the folder.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        return [self._of(frame) for frame in frames]

    def _of(self, frame: Frame) -> Disparity:
        path = self._path(frame)
        stored = _read_png16(path)
        height, width = frame.image.shape[:2]
        if stored.shape != (height, width):
            if abs(stored.shape[1] * height / (stored.shape[0] * width) - 1) > 0.01:
                raise FrameError(
                    f"{path} is {stored.shape[0]}×{stored.shape[1]}, another shape than its "
                    f"{height}×{width} frame: give disparity of the same view.",
                    "depth",
                )
            stored = cv2.resize(stored, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return check_disparity(stored / np.float32(65535), str(path))

    def _path(self, frame: Frame) -> Path:
        ref = frame.ref
        names = [f"{ref.frame_id}.png"]
        if ref.path:
            stem = Path(ref.path).stem
            names += [f"{ref.sequence}/{stem}.png", f"{stem}.png"]
        for name in names:
            for path in (self.root / name, self.root / "disp" / name):
                if path.is_file():
                    return path
        raise FrameError(
            f"{self.root / names[0]} is missing: remake the disparity of this frame or leave it "
            "out.",
            "depth",
        )


def _read_png16(path: Path) -> NDArray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path} cannot be read ({error.strerror}): fix it.", "depth") from error
    # OpenCV fills the missing rows of a truncated file and says nothing.
    if not data.startswith(b"\x89PNG") or b"IEND" not in data[-12:]:
        raise FrameError(f"{path} is no whole PNG file: remake or remove it.", "depth")
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise FrameError(
            f"{path} is not a 16-bit grey PNG: write disparity as uint16, value · 65535.", "depth"
        )
    return stored


def load_depth_network(folder: Path | str) -> DepthModel:
    """The model of a checkpoint that depth training wrote, in evaluation mode, on the CPU.

    Raises:
        InputError: missing files, a checkpoint of another kind, or damaged weights.
    """
    values, weights = read_checkpoint(Path(folder), "depth")
    fields = DepthConfig.__dataclass_fields__
    try:
        config = DepthConfig(**{k: v for k, v in values["config"].items() if k in fields})
        model = DepthModel(config)
        model.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"{folder}: the weights do not fit the network in config.yaml; give a checkpoint "
            "folder as depth training wrote it."
        ) from error
    return model.eval()


class Network:
    """Disparity from a trained `DepthNet`, on the GPU where there is one.

    Loaded on the first call, so that only the configuration travels between processes.

    Args:
        name: the text the user gave.
        folder: the checkpoint.

    Raises:
        InputError: it is not one of depth training.
    """

    def __init__(self, name: str, folder: Path) -> None:
        read_checkpoint(folder, "depth")  # say now what would fail in every actor later
        self.name = name
        self.folder = folder
        self._model: DepthModel | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_model": None}

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        if self._model is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._model = load_depth_network(self.folder).to(device)
        sizes = [_network_size(frame.image.shape[:2], self._model.config) for frame in frames]
        results: dict[int, Disparity] = {}
        for size in set(sizes):
            same = [i for i, s in enumerate(sizes) if s == size]
            results |= zip(same, self._infer([frames[i] for i in same], size), strict=True)
        return [
            _check_network(results[i], f"{frame.ref.frame_id} in {self.name}")
            for i, frame in enumerate(frames)
        ]

    @torch.inference_mode()
    def _infer(self, frames: list[Frame], size: tuple[int, int]) -> list[Disparity]:
        assert self._model is not None
        images = np.stack(
            [cv2.resize(f.image, size[::-1], interpolation=cv2.INTER_AREA) for f in frames]
        )
        device = next(self._model.parameters()).device
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
        disparities = self._model.depth(pixels)[0]
        return [
            functional.interpolate(d[None], f.image.shape[:2], mode="bilinear")[0, 0].cpu().numpy()
            for d, f in zip(disparities, frames, strict=True)
        ]


def _check_network(disparity: NDArray, what: str) -> Disparity:
    # Networks start from a slope over the rows: one that shows no more than that ignores its image.
    if float(np.ptp(disparity, axis=1).max()) < 1e-3 * float(disparity.mean()):
        raise FrameError(
            f"{what}: disparity is the same along every row, the network has collapsed: train it "
            "longer, on more video or with another seed.",
            "depth",
        )
    return check_disparity(disparity, what)


def _network_size(shape: tuple[int, ...], config: DepthConfig) -> tuple[int, int]:
    """The whole frame at the scale that training saw, in the multiples of 32 the network takes."""
    scale = max(config.height / shape[0], config.width / shape[1])
    height, width = (max(32, 32 * round(side * scale / 32)) for side in shape)
    return height, width
