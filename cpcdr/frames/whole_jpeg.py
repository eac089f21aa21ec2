"""Whether a JPEG file is whole: its markers lead to the end, and what lies between decodes."""

import re
from typing import Any

import av

_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In coded data FF is followed by 0, by another FF or by a restart marker; all else ends it."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def whole_jpeg(encoded: bytes) -> bool:
    """Whether the markers lead to the end of the image; cameras write what they like after it."""
    at = 2
    while True:
        found = _NEXT_MARKER.search(encoded, at)
        if found is None:
            return False
        kind, at = encoded[found.start() + 1], found.end()
        if kind == _END_OF_IMAGE:
            return True
        if kind != 0x01:  # a segment: its length follows, and coded data after that of a scan
            at += int.from_bytes(encoded[at : at + 2], "big")


def damage_of_jpeg(encoded: bytes) -> str:
    """What FFmpeg's decoder objects to, ``""`` if nothing: libjpeg shows garbage and only warns.

    The coded data is read as a whole, but pictures are made at an eighth of the size.
    """
    context: Any = av.CodecContext.create("mjpeg", "r")
    context.thread_count = 1
    context.options = {"err_detect": "explode", "lowres": "3"}
    try:
        pictures = context.decode(av.Packet(encoded))
    except av.InvalidDataError:
        return "its data does not decode"
    except av.FFmpegError:  # a kind of JPEG that FFmpeg does not know
        return ""
    return "part of it is missing" if any(picture.is_corrupt for picture in pictures) else ""
