"""Output of segmentation: overlay videos, or label maps as PNG files."""

import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpcdr.frames.decode import decode_image
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.storage import file_inside
from cpcdr.segment.mp4 import Mp4


def encode_ids(ids: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bytes:
    """PNG bytes of a label map uint8 [H, W] with a palette uint8 [K, 3] RGB."""
    picture = Image.fromarray(ids)
    picture.putpalette(colours.tobytes())
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", bits=8)
    return encoded.getvalue()


class OverlayVideo:
    """An mp4 of pictures with colours over them, which appears when it is complete.

    Leaving the ``with`` block on an error discards it. Without pictures there is no file.

    Args:
        size: height and width to which pictures are scaled; None: those of the first.
        legend: what is drawn below every picture, uint8 [h, w, 3], for a width of pictures; None
            draws none.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        size: tuple[int, int] | None = None,
        legend: Callable[[int], NDArray[np.uint8]] | None = None,
    ) -> None:
        self.path, self.fps, self.size, self.legend = path, fps, size, legend
        self.video: Mp4 | None = None

    def add(self, frame_id: str, picture: bytes) -> None:
        """Append the encoded picture of a frame."""
        image = decode_image(picture, frame_id)
        self.size = self.size or (image.shape[0], image.shape[1])
        if image.shape[:2] != self.size:
            image = cv2.resize(image, self.size[::-1]).astype(np.uint8)
        if self.legend is not None:
            image = above(image, self.legend(image.shape[1]))
        self.video = self.video or Mp4(self.path, (image.shape[0], image.shape[1]), self.fps)
        self.video.add(image)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self.video is not None and error is None:
            self.video.close()
        elif self.video is not None:
            self.video.discard()


def above(image: NDArray[np.uint8], below: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One picture over another, both RGB; the narrower one gets white at its right."""
    width = max(image.shape[1], below.shape[1])
    sheet = np.full((image.shape[0] + below.shape[0], width, 3), 255, np.uint8)
    sheet[: image.shape[0], : image.shape[1]] = image
    sheet[image.shape[0] :, : below.shape[1]] = below
    return sheet


class LabelFiles:
    """``{sequence}/{frame_index:08d}.png`` in a folder."""

    size: None = None

    def __init__(self, out: Path) -> None:
        self.out = out

    def add(self, frame_id: str, picture: bytes) -> None:
        """Write a frame's classes."""
        write_atomic(file_inside(self.out, f"{frame_id}.png"), picture, durable=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Every file is whole already."""
