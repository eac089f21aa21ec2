"""Whether a JPEG file is whole: its markers lead to the end, and what lies between decodes."""

import re
from typing import Any

import av
import numpy as np

_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In coded data FF is followed by 0, by another FF or by a restart marker; all else ends it."""
_END_OF_IMAGE = 0xD9
_MORE = b"\xfe\xfe"
"""Coded data that is in no picture."""


def end_of_jpeg(encoded: bytes) -> int:
    """Where the markers lead to the end of the image, 0 if they do not.

    Cameras write what they like after it.
    """
    at = 2
    while marker := _NEXT_MARKER.search(encoded, at):
        kind, at = encoded[marker.start() + 1], marker.end()
        if kind == _END_OF_IMAGE:
            return marker.start()
        if kind != 0x01:  # a segment: its length follows, and coded data after that of a scan
            at += int.from_bytes(encoded[at : at + 2], "big")
    return 0


def damage_of_jpeg(encoded: bytes) -> str:
    """What FFmpeg's decoder objects to, ``""`` if nothing: libjpeg shows garbage and only warns.

    Where data is added at the end, a whole picture stays the same; one that changes was short of
    data, because a part of it was lost or took more bits than it should.
    """
    seen, wrong = _small_picture(encoded)
    end = end_of_jpeg(encoded)
    if wrong or not seen or not end:
        return wrong
    again, wrong = _small_picture(encoded[:end] + _MORE + encoded[end:])
    return wrong or ("" if again == seen else "its data ends early")


def _small_picture(encoded: bytes) -> tuple[list[bytes], str]:
    """The picture's planes and what is wrong with it; neither if FFmpeg does not know the kind.

    The coded data is read as a whole, but pictures are made at an eighth of the size.
    """
    context: Any = av.CodecContext.create("mjpeg", "r")
    context.thread_count = 1
    context.options = {"err_detect": "explode", "lowres": "3"}
    try:
        pictures = context.decode(av.Packet(encoded))
    except av.InvalidDataError:
        return [], "its data does not decode"
    except av.FFmpegError:
        return [], ""
    if any(picture.is_corrupt for picture in pictures):
        return [], "part of it is missing"
    return [_pixels(plane) for picture in pictures for plane in picture.planes], ""


def _pixels(plane: Any) -> bytes:
    lines = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height]
    return lines.reshape(plane.height, plane.line_size)[:, : plane.width].tobytes()
