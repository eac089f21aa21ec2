"""The frame row: how frames lie in Parquet and travel through Ray Data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cpcdr.frames.decode import decode_image
from cpcdr.frames.frame import Frame, FrameRef

FRAME_SCHEMA = pa.schema(
    [
        ("sequence", pa.string()),
        ("frame_index", pa.int32()),
        ("frame_id", pa.string()),
        ("image", pa.binary()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("intrinsics", pa.list_(pa.float32(), 4)),
        ("source", pa.string()),
    ]
)
"""Columns of a frame row; ``image`` is a JPEG or PNG file, ``intrinsics`` fx, fy, cx, cy."""


def frame_row(frame: Frame) -> dict[str, Any]:
    """One row of `FRAME_SCHEMA`. Labels, pose and exact disparity stay behind."""
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
    """The frame of a row, decoded; its reference knows the sequence and index only.

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


REF_SCHEMA = pa.schema(
    [
        ("sequence", pa.string()),
        ("frame_index", pa.int32()),
        ("path", pa.string()),
        ("label_path", pa.string()),
        ("right_path", pa.string()),
    ]
)
