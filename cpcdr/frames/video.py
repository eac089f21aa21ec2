"""Frames out of video files, one by one and exactly: ``video:FILE`` and ``video:FOLDER``.

A container's own frame count and a decoder's seek are both guesses. Instead the file is read once
without decoding (milliseconds a thousand frames): its packets' time stamps say how many frames
there are, and which frame a decoder returned, wherever a seek put it. A frame's index is the rank
of its time stamp.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.decode import decode_image, encode_jpeg, quiet_opencv
from cpcdr.frames.frame import Frame, FrameOptions, FrameRef
from cpcdr.frames.intrinsics import check_inside, given_or_assumed, note
from cpcdr.frames.stored import select, walk_files
from cpcdr.runtime.errors import FrameError, InputError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")

_SAME_TIME_MS = 0.5

_NEAR_FRAMES = 16
"""A jump decodes about this many frames itself: nearer frames are reached by reading on."""


@dataclass(frozen=True)
class VideoFiles:
    """One video, or every video below a folder; a sequence is named after its file.

    Below a folder the name has the relative folder before it, and the suffix only where two files
    differ by nothing else. A broken video among others is listed with one frame that cannot be
    read, so that it is rejected with a reason and the others are used.
    """

    spec: str
    root: Path
    options: FrameOptions
    protocol: str = ""

    @classmethod
    def parse(cls, argument: str, options: FrameOptions) -> VideoFiles:
        root = Path(argument).expanduser().absolute()
        if not argument or not root.exists():
            raise InputError(
                f"video:{argument} does not exist: give a video file or a folder of videos."
            )
        return cls(f"video:{argument}", root, options)

    @property
    def intrinsics_note(self) -> str:
        return note(self.options)

    def refs(self) -> list[FrameRef]:
        if self.root.is_file():
            frames = len(packet_index(self.root))
            refs = [FrameRef(self.root.stem, i, str(self.root)) for i in range(frames)]
            return select(refs, self.options)
        files = [f for folder in walk_files(self.root, VIDEO_SUFFIXES).values() for f in folder]
        stems = Counter(file.with_suffix("") for file in files)
        refs, broken = [], 0
        for file in files:
            named = file if stems[file.with_suffix("")] > 1 else file.with_suffix("")
            sequence = named.relative_to(self.root).as_posix()
            try:
                frames = len(packet_index(file))
            except InputError:
                frames, broken = 1, broken + 1
            refs += [FrameRef(sequence, i, str(file)) for i in range(frames)]
        if broken == len(files):
            raise InputError(
                f"{self.spec} holds no readable video ({' '.join(VIDEO_SUFFIXES)}; {broken} "
                "broken): give the folder that contains the recordings."
            )
        return select(refs, self.options)

    def read(self, ref: FrameRef) -> Frame:
        path = Path(ref.path)
        try:
            reader = _open_reader(path, *_stamp(path))
        except FrameError:
            raise
        except InputError as error:
            raise FrameError(str(error)) from error
        encoded = encode_jpeg(reader.read(ref.frame_index))
        image = decode_image(encoded, ref.frame_id)
        intrinsics = given_or_assumed(self.options, (image.shape[0], image.shape[1]))
        check_inside(intrinsics, (image.shape[0], image.shape[1]), ref.path)
        return Frame(ref, encoded, image, intrinsics, self.spec)


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """What reading a video without decoding tells.

    Attributes:
        times: float64 [frames] time stamps in ms, rising: a frame's index is its place here.
            Empty where the container has no usable time stamps.
        keys: int64, rising: indices of frames at which decoding can begin.
        whole: frames whose data is known to be complete.
        frames: frames that the video should have; those from ``whole`` on are lost.
    """

    times: NDArray[np.float64]
    keys: NDArray[np.int64]
    whole: int
    frames: int

    def __len__(self) -> int:
        return self.frames


def packet_index(path: Path) -> PacketIndex:
    """The index of a video file, read once a process.

    Raises:
        InputError: the file is missing, empty, truncated beyond reading or not a video.
    """
    return _packet_index(path, *_stamp(path))


@lru_cache(maxsize=256)
def _packet_index(path: Path, modified: int, size: int) -> PacketIndex:
    capture = _capture(path, demux_only=True)
    claimed = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    stamps, keys = [], []
    while capture.grab():
        stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC))
        keys.append(capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) > 0)
    capture.release()
    found = len(stamps)
    if not found:
        raise InputError(
            f"{path} holds no video frame: it was cut off while copying or recording, or is no "
            "video; copy it again or remove it."
        )
    times = np.array(stamps)
    order = np.argsort(times, kind="stable")
    # A container that claims more frames than bytes is lying; one that claims more than it holds
    # was cut off. The last packet before the cut may be half, and frames shown after it may be
    # missing others before them, so that only the frames shown before it are trusted.
    cut = found < claimed <= size
    whole = int(np.flatnonzero(order == found - 1)[0]) if cut else found
    rising = bool(np.all(np.diff(times[order]) > 2 * _SAME_TIME_MS))
    return PacketIndex(
        times[order] if rising else np.empty(0),
        np.flatnonzero(np.array(keys)[order]),
        whole,
        int(claimed) if cut else found,
    )


class _VideoReader:
    """An open video at a position: reads forwards, and jumps where a key frame is nearer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = packet_index(path)
        self._lock = threading.Lock()
        self._capture = _capture(path)
        self._current = -1

    def read(self, index: int) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB of the frame.

        Raises:
            FrameError: the file ends before the frame, or it cannot be decoded.
        """
        if index >= self._index.whole:
            raise FrameError(
                f"{self._path} is cut off before frame {index} (of {len(self._index)}): copy the "
                "video again."
            )
        with self._lock:
            if not self._advance(index):
                self._restart()
                if not self._advance(index):
                    self._restart()
                    raise FrameError(
                        f"Frame {index} of {self._path} cannot be decoded: convert the video anew."
                    )
            decoded, image = self._capture.retrieve()
        if not decoded or image is None:
            raise FrameError(
                f"Frame {index} of {self._path} cannot be decoded: convert the video anew."
            )
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)

    def _advance(self, index: int) -> bool:
        """Make ``index`` the current frame; False if decoding passed it or ended before it."""
        if self._should_jump(index):
            self._capture.set(cv2.CAP_PROP_POS_MSEC, float(self._index.times[index]))
            if not self._grab() or self._current > index:
                self._restart()
        while self._current < index:
            if not self._grab():
                return False
        return self._current == index

    def _should_jump(self, index: int) -> bool:
        if not len(self._index.times):
            return False
        keys = self._index.keys
        nearest_key = keys[np.searchsorted(keys, index, "right") - 1] if len(keys) else 0
        return index < self._current or nearest_key > self._current + _NEAR_FRAMES

    def _grab(self) -> bool:
        if not self._capture.grab():
            return False
        times = self._index.times
        if not len(times):
            self._current += 1
            return True
        time = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        self._current = int(np.searchsorted(times, time - _SAME_TIME_MS))
        return self._current < len(times) and abs(times[self._current] - time) < _SAME_TIME_MS

    def _restart(self) -> None:
        self._capture.release()
        self._capture = _capture(self._path)
        self._current = -1


@lru_cache(maxsize=4)
def _open_reader(path: Path, modified: int, size: int) -> _VideoReader:
    """The reader of a file, kept open in this process for the frames that follow."""
    return _VideoReader(path)


def _stamp(path: Path) -> tuple[int, int]:
    """(modification time in ns, size in bytes): a changed file is read anew."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give an existing video."
        ) from error
    if not status.st_size:
        raise InputError(f"{path} is empty (0 bytes): copy the video again or remove it.")
    return status.st_mtime_ns, status.st_size


def _capture(path: Path, demux_only: bool = False) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's part of `quiet_opencv`
    parameters = [cv2.CAP_PROP_FORMAT, -1] if demux_only else [cv2.CAP_PROP_N_THREADS, 1]
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, parameters)
    if not capture.isOpened():
        raise InputError(
            f"{path} cannot be opened as a video: it is cut off, damaged or of another kind; copy "
            "it again, convert it to MP4, or remove it."
        )
    return capture
