"""Segmentation part by part: what is complete survives a stop, and is not done again.

Until the command ends, a hidden folder lies in the output folder, or beside the one video: a record
for each complete part, and the part itself where it belongs to a video.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path

from cpcdr.frames import FrameRef
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.strict_json import read_json, write_json
from cpcdr.segment.config import SegmentConfig
from cpcdr.segment.mp4 import join

FRAMES_OF_A_PART = 500
_FPS = 15.0
"""Frames per second of a video whose source has no rate."""


@dataclass(frozen=True)
class Part:
    """Consecutive frames of one output.

    Attributes:
        video: that they are a part of; None for label maps.
        fps: its frames per second.
    """

    number: int
    refs: Sequence[FrameRef]
    video: Path | None
    fps: float


@dataclass(frozen=True)
class Record:
    """What a complete part came to.

    Attributes:
        frames: that were segmented.
        rejected: frames that could not be read.
        size: height and width of its pictures, if it has any.
    """

    frames: int
    rejected: int
    size: tuple[int, int] | None = None


class Parts:
    """The parts of a command, and which of them are complete.

    Args:
        key: of everything that the output depends on.
        rates: frames per second by sequence.

    Raises:
        InputError: what lies there was begun by another command.
    """

    def __init__(
        self,
        config: SegmentConfig,
        refs: Sequence[FrameRef],
        rates: Mapping[str, float],
        key: str,
    ) -> None:
        out = config.out
        self.folder = (
            out.with_name(f".{out.name}.parts") if config.one_video else out / ".segment.parts"
        )
        self.all = cut(config, refs, rates)
        self.records = self._complete(key)
        for part in self.all[: len(self.records)]:
            self._finish(part)  # where it was stopped before that

    def _complete(self, key: str) -> list[Record]:
        begun = self.folder / "begun.json"
        paths = list(takewhile(Path.exists, map(self._record, self.all)))
        if paths and read_json(begun).get("key") != key:
            raise InputError(
                f"{self.folder}: was begun with another network, other frames or other settings; "
                "repeat that command, choose another --out, or delete it."
            )
        if not paths:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            write_json(begun, {"key": key})
        return [Record(**read_json(path)) for path in paths]

    @property
    def left(self) -> Sequence[Part]:
        """Parts that are not complete, in order."""
        return self.all[len(self.records) :]

    @property
    def size(self) -> tuple[int, int] | None:
        """Of the pictures of the video that the next part belongs to, if it has any."""
        video = self.left[0].video
        sizes = (
            r.size and (r.size[0], r.size[1])
            for part, r in zip(self.all, self.records, strict=False)
            if part.video == video
        )
        return next((size for size in sizes if size), None)

    def file(self, part: Part) -> Path:
        """Where a part of a video is written."""
        return self.folder / f"{part.number:05d}.mp4"

    def add(self, record: Record) -> None:
        """Note that the next part is complete; a video whose last part it is appears."""
        part = self.left[0]
        write_json(self._record(part), vars(record))
        self.records.append(record)
        self._finish(part)

    def _record(self, part: Part) -> Path:
        return self.folder / f"{part.number:05d}.json"

    def _finish(self, last: Part) -> None:
        """Join the parts of a video, if this was the last of them."""
        parts = [part for part in self.all if part.video == last.video]
        if last.video is None or parts[-1] is not last:
            return
        files = [self.file(part) for part in parts if self.records[part.number].frames]
        if files and all(file.exists() for file in files):  # else it was stopped while deleting
            join(files, last.video, last.fps)
        for file in files:
            file.unlink(missing_ok=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Delete the folder at the end, and on an error if nothing in it is worth keeping."""
        try:
            yield
        except BaseException:
            if not any(record.frames for record in self.records):
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        shutil.rmtree(self.folder)


def cut(config: SegmentConfig, refs: Sequence[FrameRef], rates: Mapping[str, float]) -> list[Part]:
    """The frames in parts, each of one sequence where every sequence has a video of its own."""
    parts = list[Part]()
    sequences = groupby(refs, lambda ref: "" if config.one_video else ref.sequence)
    for sequence, each in sequences:
        some = list(each)
        path = config.out if config.one_video else config.out / f"{sequence.replace('/', '-')}.mp4"
        fps = config.fps or rates.get(some[0].sequence) or _FPS
        for first in range(0, len(some), FRAMES_OF_A_PART):
            chosen = some[first : first + FRAMES_OF_A_PART]
            parts.append(Part(len(parts), chosen, None if config.labels else path, fps))
    return parts
