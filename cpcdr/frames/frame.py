"""The frame contract: what every source of frames yields and every later stage takes.

A source lists its frames without their pixels (`FrameRef`, one record a frame, so that work can be
counted, spread, resumed and rejected frame by frame) and reads one on demand (`Frame`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cpcdr.runtime.errors import InputError

IGNORE = 255
"""Label value of pixels without a class."""
BREAK = 1000
"""Frame indices left out where another recording begins; longer gaps are shortened to it."""
FIELDS_OF_VIEW = (5.0, 170.0)
"""Degrees between which a pinhole camera's field of view lies."""


@dataclass(frozen=True, slots=True)
class FrameRef:
    """Where one frame is.

    Attributes:
        sequence: name of the recording it belongs to, unique in the source; no ``/`` at its ends.
        frame_index: position in the sequence, consecutive frames have consecutive indices.
        path: the file that holds the pixels (``""`` for rendered frames).
        label_path: the file that holds its label map, ``""`` where there is none.
        right_path: the right image of a stereo pair, ``""`` where there is none.
    """

    sequence: str
    frame_index: int
    path: str = ""
    label_path: str = ""
    right_path: str = ""

    @property
    def frame_id(self) -> str:
        """Unique, sortable id ``{sequence}/{frame_index:08d}``."""
        return f"{self.sequence}/{self.frame_index:08d}"


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame with its pixels.

    Attributes:
        encoded: the image file's bytes, JPEG or PNG (video frames: JPEG, quality 95).
        image: uint8 [H, W, 3] RGB, equal to the decoded bytes.
        intrinsics: float32 [4] = fx, fy, cx, cy in pixels of ``image``.
        source: the source's spec, such as ``video:drive.mp4``.
        labels: uint8 [H, W] train ids of the source's protocol, 255 = ignore; None without labels.
        disparity: float32 [H, W] exact disparity in (0, 1] where the source knows it, else None.
        pose: float64 [4, 4] camera-to-world in metres (x right, y down, z forward) where known.
    """

    ref: FrameRef
    encoded: bytes
    image: NDArray[np.uint8]
    intrinsics: NDArray[np.float32]
    source: str
    labels: NDArray[np.uint8] | None = None
    disparity: NDArray[np.float32] | None = None
    pose: NDArray[np.float64] | None = None


class FrameSource(Protocol):
    """A small picklable object: Ray sends it to the actors that read frames.

    Attributes:
        spec: the text the user gave, ``KIND:PATH``.
        protocol: name of the label protocol, ``""`` where the source has no labels.
        intrinsics_note: where the intrinsics come from, in words, for the manifest.
    """

    spec: str
    protocol: str
    intrinsics_note: str

    def refs(self) -> Sequence[FrameRef]:
        """Every frame, sorted by ``frame_id``; where a file has many, each is made on demand.

        Raises:
            InputError: the path is missing, or holds no frame of this kind.
        """

    def read(self, ref: FrameRef) -> Frame:
        """The frame with its pixels (labels, pose, exact disparity where the source has them).

        Raises:
            FrameError: this frame cannot be read.
        """


@dataclass(frozen=True)
class FrameOptions:
    """How frames are read, for every source.

    Attributes:
        intrinsics: ``fx,fy,cx,cy`` in pixels of the source image; empty: read from the source's
            calibration files, or assumed from ``fov``.
        fov: horizontal field of view in degrees, assumed where no intrinsics are given or found.
        window: ``first:last`` of each sequence's frames, as Python slices count: ``:-40`` leaves
            the last forty out, ``-40:`` keeps only them; empty keeps all.
        stride: keep every stride-th frame of each sequence.
        limit: keep at most this many frames in all, spread evenly over the sequences; 0 keeps all.
    """

    intrinsics: str = ""
    fov: float = 60.0
    window: str = ""
    stride: int = 1
    limit: int = 0

    def __post_init__(self) -> None:
        low, high = FIELDS_OF_VIEW
        if not low < self.fov < high:
            raise InputError(
                f"--options.fov {self.fov} is not a field of view: give degrees in "
                f"{low:g}..{high:g}."
            )
        if self.stride < 1 or self.limit < 0:
            raise InputError("--options.stride must be at least 1 and --options.limit at least 0.")
        for window in self.window.split(";"):
            parse_window(window)


def parse_window(text: str) -> slice:
    """The slice that ``first:last`` means; everything for an empty text.

    Raises:
        InputError: it is not of that form.
    """
    parts = text.strip().split(":") if text.strip() else ["", ""]
    try:
        first, last = (int(part) if part.strip() else None for part in parts)
    except ValueError as error:
        raise InputError(
            f"--options.window {text!r} is not first:last: give whole numbers, such as 0:500 or "
            ":-40."
        ) from error
    return slice(first, last)
