"""Where the pictures of a video stream change their size, according to its packets."""

import re
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

_SIZE = {
    "mjpeg": re.compile(rb"\xff[\xc0-\xc2]\x00.\x08.{4}", re.DOTALL),
    "vp8": re.compile(rb"(?<=^.{3}).{7}", re.DOTALL),
    "vp9": re.compile(rb"^.{9}", re.DOTALL),
}
"""By codec: the part of a key frame's packet that has its size."""


@dataclass(frozen=True)
class PictureSize:
    """Width and height in pixels as coded, and the width of a pixel in units of its height."""

    width: int
    height: int
    aspect: Fraction


class SizeWatch:
    """Notices where the pictures of a stream change their size: a key frame with other headers."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        first = PictureSize(stream.width, stream.height, stream.sample_aspect_ratio or Fraction(1))
        self.changes = [(0, first)]
        self._known: dict[bytes, PictureSize] = {}
        self._size = _SIZE.get(stream.codec_context.name)
        self._filter: BitStreamFilterContext | None = None
        with suppress(av.FFmpegError, ValueError):  # few codecs have headers in their packets
            self._filter = BitStreamFilterContext("extract_extradata", stream)

    def see(self, number: int, packet: Any) -> None:
        data = bytes(packet)
        headers = self._headers(packet, data)
        if not headers:
            return
        if not self._known:
            self._known[headers] = self.changes[0][1]
        if headers not in self._known:
            self._known[headers] = self._decoded(data) or self.changes[-1][1]
        if self._known[headers] != self.changes[-1][1]:
            self.changes.append((number, self._known[headers]))

    def _headers(self, packet: Any, data: bytes) -> bytes:
        """Parameter sets in or beside a packet."""
        if self._size is not None:
            found = self._size.search(data)
            return found[0] if found else b""
        if packet.has_sidedata("new_extradata"):
            return bytes(packet.get_sidedata("new_extradata"))
        if self._filter is None:
            return b""
        with suppress(av.FFmpegError):
            for filtered in self._filter.filter(packet):
                if filtered.has_sidedata("new_extradata"):
                    return bytes(filtered.get_sidedata("new_extradata"))
        return b""

    def _decoded(self, data: bytes) -> PictureSize | None:
        context: Any = av.CodecContext.create(self._stream.codec_context.name, "r")
        context.extradata = self._stream.codec_context.extradata
        with suppress(av.FFmpegError):
            for frame in [*context.decode(av.Packet(data)), *context.decode(None)]:
                aspect = context.sample_aspect_ratio or Fraction(1)
                return PictureSize(frame.width, frame.height, aspect)
        return None
