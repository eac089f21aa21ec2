"""Where a frame's disparity comes from: exact, stored as PNG files, or a trained network.

PyTorch is imported only for a network: processes that need none start seconds earlier.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

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
        from cpcdr.depth.network import Network

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
