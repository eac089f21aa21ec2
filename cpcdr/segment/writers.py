"""Output of segmentation: overlay videos, or label maps as PNG files."""

import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpcdr.frames.decode import decode_image
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.storage import file_inside
from cpcdr.segment.config import SegmentConfig

_FPS = 15.0
"""Frames per second of a video whose source has no rate."""


def encode_ids(ids: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bytes:
    """PNG bytes of a label map uint8 [H, W] with a palette uint8 [K, 3] RGB."""
    picture = Image.fromarray(ids)
    picture.putpalette(colours.tobytes())
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", bits=8)
    return encoded.getvalue()


class OverlayVideos:
    """One mp4 in total, or one per sequence in a folder; files appear only when complete."""

    def __init__(self, config: SegmentConfig, frame_rates: Mapping[str, float]) -> None:
        self.config, self.frame_rates = config, frame_rates
        self.writer: cv2.VideoWriter | None = None
        self.path, self.size = Path(), (0, 0)

    def add(self, sequence: str, frame_id: str, picture: bytes) -> None:
        """Append a frame; frames come sequence by sequence."""
        out = self.config.out
        path = out if self.config.one_video else out / f"{sequence.replace('/', '-')}.mp4"
        image = decode_image(picture, frame_id)
        if path != self.path:
            self.close()
            self._open(path, image, self.config.fps or self.frame_rates.get(sequence) or _FPS)
        assert self.writer is not None
        height, width = self.size
        if image.shape[:2] != self.size:
            image = cv2.resize(image, (width, height)).astype(np.uint8)
        self.writer.write(np.ascontiguousarray(image[:height, :width, ::-1]))

    def _open(self, path: Path, image: NDArray[np.uint8], fps: float) -> None:
        self.path, self.size = path, (image.shape[0], image.shape[1])
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self.writer = cv2.VideoWriter(str(self._partial()), fourcc, fps, self.size[::-1])
        if not self.writer.isOpened():
            raise InputError(f"{path}: cannot be written as a video; choose another folder.")

    def _partial(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.partial.mp4")

    def close(self) -> None:
        """Finish the open video and move it to its final name."""
        if self.writer is not None:
            self.writer.release()
            self.writer = None
            with suppress(FileNotFoundError):
                self._partial().replace(self.path)


class LabelFiles:
    """``{sequence}/{frame_index:08d}.png`` in a folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def add(self, sequence: str, frame_id: str, picture: bytes) -> None:
        """Write a frame's classes."""
        path = file_inside(self.out, f"{frame_id}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)

    def close(self) -> None:
        """Nothing to close."""
