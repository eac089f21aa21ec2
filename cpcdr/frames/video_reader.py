"""Any picture of a video, exactly: seek to the key frame before it, decode forward, check.

Each packet is fed with its number, and each picture comes out with the number of its packet, so
that no time stamp decides which picture was decoded.

Damage spreads: decoders conceal what is missing and mark only the first picture of a damaged
stretch. Hence what follows an error, up to the next key frame, is rejected too. To find exactly
where an error begins, the stretch is decoded once more with one thread.
"""

import os
import threading
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.video_decoder import Decoder
from cpcdr.frames.video_index import VideoIndex, read_index
from cpcdr.frames.video_picture import PictureMaker, display_of
from cpcdr.runtime.errors import FrameError
from cpcdr.runtime.names import readable

_MOST_THREADS = 8


class VideoReader:
    """An open video at a position. Safe to call from several threads, one at a time."""

    def __init__(self, path: Path, index: VideoIndex, threads: int) -> None:
        self._path, self._index = path, index
        self._lock = threading.Lock()
        self._decoder = Decoder(path, index, threads)
        self._maker = PictureMaker()
        self._damage: dict[int, int] = {}

    def read(self, frame_index: int) -> tuple[NDArray[np.uint8], float]:
        """The picture at a frame index.

        Returns:
            uint8 [H, W, 3] RGB, and the width of its pixels in units of their height.

        Raises:
            FrameError: the file ends before it, or it cannot be decoded as it was recorded.
        """
        index = self._index
        place = int(np.searchsorted(index.frame_indices, frame_index))
        name = f"Frame {frame_index} of {readable(self._path)}"
        if place >= len(index.packets) or index.frame_indices[place] != frame_index:
            raise FrameError(
                f"{readable(self._path)} is cut off before frame {frame_index}: copy the video "
                "again."
            )
        with self._lock:
            packet = int(index.packets[place])
            frame = self._frame(packet, name)
            size = index.size_of(packet)
            if (frame.width, frame.height) != (size.width, size.height):
                raise FrameError(
                    f"{name} is {frame.width}×{frame.height}, where the video is "
                    f"{size.width}×{size.height}: split the video where its size changes."
                )
            try:
                image = self._maker.picture(frame)
            except (av.FFmpegError, ValueError) as error:
                raise FrameError(
                    f"{name} is in a pixel format ({frame.format.name}) that cannot be converted: "
                    "convert the video anew."
                ) from error
        aspect = float(size.aspect)
        sideways, _, _ = display_of(frame)
        return image, 1 / aspect if sideways else aspect

    def _frame(self, packet: int, name: str) -> av.VideoFrame:
        key = self._key_of(packet)
        if key is None:
            raise FrameError(
                f"{name} comes before the first key frame, so that it cannot be decoded: the "
                "video was cut there."
            )
        frame = self._decoder.picture(packet, key)
        if frame is not None and not self._decoder.troubled(key):
            return frame
        self._check_damage(packet, name)
        frame = frame or self._from_earlier(packet, key)
        if frame is None:
            raise FrameError(f"{name} cannot be decoded: convert the video anew.")
        return frame

    def _key_of(self, packet: int) -> int | None:
        """The key frame at which decoding begins for a packet's picture.

        A picture that follows a key frame but is shown before it refers to what was before that.
        """
        keys = self._index.keys
        at = int(np.searchsorted(keys, packet, "right")) - 1
        if at >= 0 and self._leads(packet, int(keys[at])):
            at -= 1
        return int(keys[at]) if at >= 0 else None

    def _leads(self, packet: int, key: int) -> bool:
        return 0 <= self._index.places[packet] < self._index.places[key]

    def _before(self, key: int) -> int:
        """The key frame before one, or the first itself."""
        keys = self._index.keys
        return int(keys[max(0, int(np.searchsorted(keys, key)) - 1)])

    def _check_damage(self, packet: int, name: str) -> None:
        """Refuse a picture that comes after an error and before the next key frame."""
        keys = self._index.keys
        at = int(np.searchsorted(keys, packet, "right")) - 1
        own = int(keys[at])
        stretches = [own, self._before(own)] if self._leads(packet, own) else [own]
        for key in stretches:
            if key not in self._damage:
                self._damage[key] = self._first_damaged(key)
            if packet >= self._damage[key]:
                raise FrameError(
                    f"{name} is damaged, or follows damage with no key frame in between: the "
                    "decoder only guesses it; copy the video again."
                )

    def _first_damaged(self, key: int) -> int:
        """The first packet of a stretch that does not decode cleanly; past the end if all do."""
        last = self._index.end_of(key)
        trouble = Decoder(self._path, self._index, 1).trouble_before(last, self._before(key))
        return min((p for p in trouble if key <= p < last), default=len(self._index.sizes))

    def _from_earlier(self, packet: int, key: int) -> av.VideoFrame | None:
        """The picture, decoded from farther back: from 1, 2, 4, ... key frames before.

        Some key frames are not whole: the picture is refreshed piece by piece in those after.
        """
        decoder, keys = Decoder(self._path, self._index, 1), self._index.keys
        at, back, frame = int(np.searchsorted(keys, key)), 1, None
        while frame is None and back < 2 * at + 1:
            frame = decoder.picture(packet, int(keys[max(0, at - back)]))
            back *= 2
        return frame


@lru_cache(maxsize=4)
def open_reader(path: Path, modified: int, length: int) -> VideoReader:
    """The reader of a file in this state, kept open in this process for the frames that follow."""
    return VideoReader(path, read_index(path, modified, length), _threads())


def _threads() -> int:
    """Decoding threads: the cores of this process; Ray sets this variable for its actors."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(given) if given.isdigit() and int(given) else os.cpu_count() or 1, _MOST_THREADS)
