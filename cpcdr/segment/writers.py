"""Output of segmentation: overlay videos, or label maps as PNG files."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpcdr.frames.decode import decode_image
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.storage import file_inside
from cpcdr.segment.config import SegmentConfig
from cpcdr.segment.mp4 import Mp4

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
    """One mp4 in total, or one per sequence in a folder; a file appears when it is complete.

    Leaving the ``with`` block on an error discards the video that is being written.

    Args:
        legend: what is drawn below every picture, uint8 [h, w, 3], for a width of pictures; None
            draws none.
    """

    def __init__(
        self,
        config: SegmentConfig,
        frame_rates: Mapping[str, float],
        legend: Callable[[int], NDArray[np.uint8]] | None = None,
    ) -> None:
        self.config, self.frame_rates, self.legend = config, frame_rates, legend
        self.video: Mp4 | None = None

    def add(self, sequence: str, frame_id: str, picture: bytes) -> None:
        """Append a frame; frames come sequence by sequence."""
        out = self.config.out
        path = out if self.config.one_video else out / f"{sequence.replace('/', '-')}.mp4"
        image = decode_image(picture, frame_id)
        if self.legend is not None:
            image = above(image, self.legend(image.shape[1]))
        if self.video is None or path != self.video.path:
            self.close()
            fps = self.config.fps or self.frame_rates.get(sequence) or _FPS
            self.video = Mp4(path, (image.shape[0], image.shape[1]), fps)
        self.video.add(image)

    def close(self) -> None:
        """Finish the open video and move it to its final name."""
        if self.video is not None:
            self.video.close()
            self.video = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
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

    def __init__(self, out: Path) -> None:
        self.out = out

    def add(self, sequence: str, frame_id: str, picture: bytes) -> None:
        """Write a frame's classes."""
        write_atomic(file_inside(self.out, f"{frame_id}.png"), picture, durable=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Every file is whole already."""
