"""The frame row: how frames lie in Parquet and travel through Ray Data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cpcdr.frames.decode import decode_image
from cpcdr.frames.frame import Frame, FrameRef

_PATHS = dict.fromkeys(("path", "label_path", "right_path"), pa.string())
REF_SCHEMA = pa.schema({"sequence": pa.string(), "frame_index": pa.int32(), **_PATHS})
"""Columns of a `FrameRef`."""


def frame_row(frame: Frame) -> dict[str, Any]:
    """The columns of a frame. Labels, pose and exact disparity stay behind."""
    height, width = frame.image.shape[:2]
    return {
        "sequence": frame.ref.sequence,
        "frame_index": frame.ref.frame_index,
        "frame_id": frame.ref.frame_id,
        "image": frame.encoded,
        "height": height,
        "width": width,
        "intrinsics": frame.intrinsics.astype(np.float32),
        "source": frame.source,
    }


def frame_from_row(row: Mapping[str, Any]) -> Frame:
    """The frame of a row that `frame_row` made, decoded; its reference has sequence and index only.

    Raises:
        FrameError: the image bytes cannot be decoded.
    """
    encoded = bytes(row["image"])
    return Frame(
        FrameRef(row["sequence"], int(row["frame_index"])),
        encoded,
        decode_image(encoded, row["frame_id"]),
        np.asarray(row["intrinsics"], np.float32),
        row["source"],
    )
