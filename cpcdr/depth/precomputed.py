"""Precomputed disparity: three layouts of 16-bit PNG files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.source import DepthError, Disparity, check_disparity
from cpcdr.frames.decode import MAX_PIXELS, image_size, too_large
from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.frames.resize import cover_and_crop, cover_scale

CITYSCAPES_BASELINE = 0.209313
"""Metres between the cameras of Cityscapes' stereo rig, as in all of its camera files."""

Decode = Callable[[NDArray[np.uint16], float], NDArray[np.float32]]
"""Stored values and the focal length in their pixels -> disparity 1 / z, 0 = invalid."""


def decode_released(stored: NDArray[np.uint16], focal: float) -> NDArray[np.float32]:
    """The layout of the released code and of our datasets: value / 65535."""
    return (stored / 65535).astype(np.float32)


def decode_cityscapes(stored: NDArray[np.uint16], focal: float) -> NDArray[np.float32]:
    """Cityscapes' own maps: pixels of disparity = (value - 1) / 256, value 0 = invalid."""
    pixels = (stored.astype(np.float32) - 1) / 256
    inverse_depth = pixels / np.float32(CITYSCAPES_BASELINE * focal)
    return np.where(stored > 0, np.clip(inverse_depth, 1e-4, 1), 0).astype(np.float32)


def decode_kitti(stored: NDArray[np.uint16], focal: float) -> NDArray[np.float32]:
    """KITTI's depth maps: metres = value / 256, value 0 = no laser return."""
    depth = np.maximum(stored.astype(np.float32) / 256, 1)
    return np.where(stored > 0, 1 / depth, 0).astype(np.float32)


class Precomputed:
    """Disparity in 16-bit PNG files.

    A frame's file is the first that exists of these under ROOT (``stem`` is the name of the frame's
    image file without its ending):

    - the released code's layout, also under ``ROOT/disp``: ``{sequence}/{frame_index:08d}.png``,
      ``{sequence}/{stem}.png``, ``{stem}.png``;
    - Cityscapes, also under ``ROOT/disparity``: ``{split}/{city}/..._disparity.png``;
    - KITTI's annotated depth, also under ``ROOT/train`` and ``ROOT/val``:
      ``{drive}/proj_depth/groundtruth/{camera}/{stem}.png`` or ``velodyne_raw``.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        """One map per frame, scaled and cropped like the frame."""
        return [self._disparity(frame) for frame in frames]

    def _disparity(self, frame: Frame) -> Disparity:
        path, decode = self._find(frame)
        stored = _read_png16(path)
        size = frame.image.shape[:2]
        if not _same_view(stored.shape, size, frame.ref):
            raise DepthError(
                f"{path} is {stored.shape[0]}×{stored.shape[1]}, but its frame is "
                f"{size[0]}×{size[1]}: give disparity of the same view."
            )
        focal = float(frame.intrinsics[0]) / cover_scale(stored.shape, size)
        disparity = decode(stored, focal)
        nearest = cv2.INTER_NEAREST_EXACT  # invalid pixels must not bleed into valid ones
        return check_disparity(cover_and_crop(disparity, size, nearest), str(path))

    def _find(self, frame: Frame) -> tuple[Path, Decode]:
        for name, decode in _candidates(frame.ref):
            if (self.root / name).is_file():
                return self.root / name, decode
        raise DepthError(
            f"{self.root / frame.ref.frame_id}.png is missing, and no other layout has a file "
            "for this frame: compute its disparity or exclude the frame."
        )


def tree_names(ref: FrameRef) -> list[str]:
    """Candidate names of a frame's file in the released code's layout, best first."""
    sequence = ref.sequence.removeprefix("rgb/")  # the images may be in that layout too
    below = sequence.partition("/")[2]  # the image folder's own name is optional
    names = []
    for folder in [sequence, *([below] if below else [])]:
        names.append(f"{folder}/{ref.frame_index:08d}.png")
        names += [f"{folder}/{Path(ref.path).stem}.png"] if ref.path else []
    return [*names, *([f"{Path(ref.path).stem}.png"] if ref.path else [])]


def _candidates(ref: FrameRef) -> Iterator[tuple[str, Decode]]:
    stem = Path(ref.path).stem
    for name in tree_names(ref):
        yield name, decode_released
        yield f"disp/{name}", decode_released
    if stem.lower().endswith("_leftimg8bit"):
        folder = ref.sequence.rpartition("/")[0]
        name = f"{folder}/{stem[: -len('_leftImg8bit')]}_disparity.png"
        yield name, decode_cityscapes
        yield f"disparity/{name}", decode_cityscapes
    drive, camera = ref.sequence.rpartition("/")[2], Path(ref.path).parent.parent.name
    for kind in ("groundtruth", "velodyne_raw"):
        for split in ("", "train/", "val/"):
            yield f"{split}{drive}/proj_depth/{kind}/{camera}/{stem}.png", decode_kitti


def _same_view(stored: tuple[int, ...], size: tuple[int, ...], ref: FrameRef) -> bool:
    """Whether a map has the shape of the frame, or of the image file it was cut from."""
    shapes = [size]
    original = image_size(Path(ref.path)) if ref.path and Path(ref.path).is_file() else None
    shapes += [original] if original else []
    return any(abs(stored[1] * h / (stored[0] * w) - 1) <= 0.01 for h, w in shapes)


def _read_png16(path: Path) -> NDArray[Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DepthError(f"{path} cannot be read ({error.strerror}): fix it.") from error
    # OpenCV silently fills the missing rows of a truncated file.
    if not data.startswith(b"\x89PNG") or b"IEND" not in data[-12:]:
        raise DepthError(f"{path} is not a complete PNG file: recompute or remove it.")
    if too_large(data):
        raise DepthError(
            f"{path} has more than {MAX_PIXELS} pixels: scale the depth map down first."
        )
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise DepthError(
            f"{path} is not a 16-bit grey PNG: write disparity as uint16, value · 65535."
        )
    return stored
