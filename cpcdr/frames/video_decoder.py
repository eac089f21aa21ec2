"""A video's decoder at a position: seeks to key frames, decodes forward, numbers what it sees."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np

from cpcdr.frames.video_damage import bytes_of_length, is_overwritten
from cpcdr.frames.video_index import (
    EMPTY_PICTURE,
    VideoIndex,
    number_of,
    only,
    open_container,
    packets_of,
    set_number,
)

_NEAR_PACKETS = 16
"""A key frame at most so far ahead is reached by decoding on, a farther one by seeking."""
_EXPLODE, _STRICTLY = {"err_detect": "explode"}, {"strict": "strict"}
_OPTIONS = {
    "mjpeg": _EXPLODE,
    "mpeg1video": _EXPLODE,
    "mpeg2video": _EXPLODE,
    "av1": _STRICTLY,
    "libdav1d": _STRICTLY,
}
"""Options of decoders that report damage only if they are to stop at it. H.264's and HEVC's would
stop at less, such as an odd remark beside the pictures; VP9's finds no fault with most damage."""
_TRIES = 3
"""Key frames, one before the other, that are sought until a seek ends before the wanted one."""


class Decoder:
    """A container and its decoder. Pictures are handed out forwards; going back means a seek.

    Attributes:
        trouble: packets since the last seek at which decoder or container reported damage; with
            several threads, the decoder reports it some packets late.
    """

    def __init__(self, path: Path, index: VideoIndex, threads: int) -> None:
        self._path, self._index, self._threads = path, index, threads
        self.trouble: list[int] = []
        self._decoded: deque[Any] = deque()
        self._container: Any = None
        self._packets: Iterator[Any] = iter(())
        self._held: Any = None
        self._begun = self._next = 0
        self._shown = len(index.packets)  # nothing can be read on

    def close(self) -> None:
        """Let go of the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def __del__(self) -> None:
        self.close()  # PyAV's containers and streams refer to each other, and would stay open

    def picture(self, packet: int, key: int) -> av.VideoFrame | None:
        """The picture of a packet, decoded from a key frame on; None if there comes none.

        Raises:
            InputError: the file is gone or changed.
        """
        place = int(self._index.places[packet])
        behind = place <= self._shown or key < self._begun
        if behind or key > self._next + _NEAR_PACKETS:
            self._start(key)
        while True:
            while self._decoded:
                shown = self._place_of(self._decoded[0])
                self._note_missing(shown)
                if shown > place:
                    return None
                frame = self._decoded.popleft()
                self._shown = max(self._shown, shown)
                if shown == place:
                    return frame
            if not self._feed():
                self._shown = len(self._index.packets)
                return None

    def trouble_before(self, packet: int, key: int) -> list[int]:
        """Where damage is reported in what is decoded from a key frame to before a packet."""
        self._start(key)
        while self._next < packet and self._feed():
            self._look_through()
        self._decode(None, packet - 1)
        self._look_through()
        self._shown = len(self._index.packets)
        return self.trouble

    def troubled(self, key: int) -> bool:
        """Whether damage was reported from a key frame on."""
        return any(packet >= key for packet in self.trouble)

    def _look_through(self) -> None:
        while self._decoded:
            shown = self._place_of(self._decoded.popleft())
            self._note_missing(shown)
            self._shown = max(self._shown, shown)

    def _place_of(self, frame: Any) -> int:
        number = number_of(frame)
        return int(self._index.places[number]) if number >= 0 else -1

    def _note_missing(self, shown: int) -> None:
        """A packet without a picture between two with one was damaged, unless it is empty."""
        if 0 <= self._shown < shown - 1:
            skipped = self._index.packets[self._shown + 1 : shown]
            fed = (skipped >= self._begun) & (self._index.sizes[skipped] > EMPTY_PICTURE)
            self.trouble += skipped[fed].tolist()

    def _feed(self) -> bool:
        """Decode one more packet, at the end what is left in the decoder; False if all is out."""
        packet = self._held or next(self._packets, None)
        self._held = None
        if packet is None:
            self._decode(None, self._next)
            return bool(self._decoded)
        number = self._next
        self._next += 1
        damaged = number + self._index.loose_flags
        if packet.is_corrupt and damaged < self._index.end_of(number):
            self.trouble.append(damaged)
        if is_overwritten(bytes(packet), self._stream.codec_context.name, self._length_bytes):
            self.trouble.append(number)
        set_number(packet, number)
        self._decode(packet, number)
        return True

    def _decode(self, packet: Any, number: int) -> None:
        try:
            frames = self._stream.codec_context.decode(packet)
        except EOFError:  # flushed before
            return
        except av.FFmpegError:
            self.trouble.append(number)
            return
        self.trouble += [number_of(f) for f in frames if f.is_corrupt and number_of(f) >= 0]
        self._decoded += frames

    def _start(self, key: int) -> None:
        """Stand before a key frame, with an empty decoder."""
        self.trouble = []
        self._decoded.clear()
        if self._container is None or not self._seek(key):
            self._open()
            for _ in range(key):
                next(self._packets, None)
        self._begun = self._next = key
        self._shown = -1

    def _open(self) -> None:
        self.close()
        self._container = open_container(self._path)
        self._stream = only(self._container, self._container.streams[self._index.stream])
        context = self._stream.codec_context
        context.copy_opaque = True
        context.thread_count = self._threads
        context.thread_type = "AUTO"
        context.options = _OPTIONS.get(context.name, {})
        self._length_bytes = bytes_of_length(context.name, context.extradata or b"")
        self._held = None
        self._packets = packets_of(self._container, self._stream)

    def _seek(self, key: int) -> bool:
        """Seek to a key frame or a little before and skip to it; False if that went wrong."""
        keys = self._index.keys
        at = int(np.searchsorted(keys, key))
        for sought in range(at, max(-1, at - _TRIES), -1):
            with suppress(av.FFmpegError):
                stamp = int(self._index.stamps[keys[sought]])
                self._container.seek(stamp, stream=self._stream)
                if self._skip_to(key):
                    return True
        return False

    def _skip_to(self, key: int) -> bool:
        self._packets = packets_of(self._container, self._stream)
        number = None
        for packet in self._packets:
            number = self._number_of(packet) if number is None else number + 1
            if number == key:
                self._held = packet
                return self._number_of(packet) == key
            if number is not None and number > key:
                return False
        return False

    def _number_of(self, packet: Any) -> int | None:
        """Which packet of the file this is, by its place, its length and, if need be, its time."""
        index = self._index
        same = index.sizes == packet.size
        if packet.pos is not None:
            same &= index.positions == packet.pos
        if np.count_nonzero(same) > 1:
            same &= index.stamps == (packet.dts if packet.pts is None else packet.pts)
        matches = np.flatnonzero(same)
        return int(matches[0]) if len(matches) == 1 else None
