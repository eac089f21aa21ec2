"""Segmentation part by part: what is complete survives a stop, and is not done again.

Until the command ends, a hidden folder lies in the output folder, or beside the one video. It holds
what is complete, ``state.json``, and the parts of videos.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from cpcdr.frames import FrameRef
from cpcdr.runtime.durable import sync_file
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.storage import file_inside
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
    """The result of a complete part.

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
        rates: frames per second by sequence.
        key: a digest of everything that the output depends on.

    Raises:
        InputError: what lies there was begun by another command or is damaged, or two sequences
            would have one file.
    """

    def __init__(
        self,
        config: SegmentConfig,
        refs: Sequence[FrameRef],
        rates: Mapping[str, float],
        key: str,
    ) -> None:
        self.out = config.out
        own = f".{self.out.name}.parts" if config.one_video else f"{self.out.name}/.segment.parts"
        self.folder = self.out.parent / own
        self.all, self.key = cut(config, refs, rates), key
        self.records, self.joined = list[Record](), set[str]()
        for video in {part.video for part in self.all if part.video}:
            if video.is_dir():
                raise InputError(f"{video}: is a folder; remove it, or choose another --out.")
        if (self.folder / "state.json").exists():
            self._read()

    def _read(self) -> None:
        """What an earlier call left; a part whose files are gone is not complete."""
        state = read_json(self.folder / "state.json", f"delete {self.folder}")
        try:
            self.records = [
                Record(r["frames"], r["rejected"], r["size"] and tuple(r["size"]))
                for r in state["records"]
            ]
            self.joined, same = set(state["joined"]), state["key"] == self.key
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.folder}: is damaged; delete that folder.") from error
        if not same:
            raise InputError(
                f"{self.folder}: was begun with another network, other frames or other settings; "
                "repeat that command, choose another --out, or delete that folder, and with it "
                "what is complete."
            )
        for part, record in zip(self.all, self.records, strict=False):
            if not self._is_there(part, record):
                video = [each for each in self.all if each.video == part.video]
                self._forget(video[0] if self._is_joined(part) else part)
                break

    def _forget(self, first: Part) -> None:
        """A part and those after it are to be done again."""
        self.joined -= {part.video.name for part in self.all[first.number :] if part.video}
        del self.records[first.number :]

    def _is_there(self, part: Part, record: Record) -> bool:
        if part.video is None:
            labels = (file_inside(self.out, f"{ref.frame_id}.png") for ref in part.refs)
            return sum(map(_has_content, labels)) >= record.frames
        file = part.video if self._is_joined(part) else self.file(part)
        return not record.frames or _has_content(file)

    def _is_joined(self, part: Part) -> bool:
        return part.video is not None and part.video.name in self.joined

    @property
    def left(self) -> Sequence[Part]:
        """Parts that are not complete, in order."""
        return self.all[len(self.records) :]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the pictures of the next part's video; None: not known yet."""
        video, done = self.left[0].video, zip(self.all, self.records, strict=False)
        return next((r.size for part, r in done if part.video == video and r.size), None)

    def file(self, part: Part) -> Path:
        """Where a part of a video is written."""
        return self.folder / f"{part.number:05d}.mp4"

    def add(self, record: Record) -> None:
        """Note that the next part is complete; a video whose last part it is appears."""
        part = self.left[0]
        if part.video is not None and record.frames:
            sync_file(self.file(part))
        self.records.append(record)
        self._write()
        self._join(part)

    def _write(self) -> None:
        records = [asdict(record) for record in self.records]
        state = {"key": self.key, "joined": sorted(self.joined), "records": records}
        write_json(self.folder / "state.json", state)

    def _join(self, last: Part) -> None:
        """Make the video that this is the last part of."""
        parts = [part for part in self.all if part.video == last.video]
        if last.video is None or parts[-1] is not last:
            return
        files = [self.file(part) for part in parts if self.records[part.number].frames]
        if files and not self._is_joined(last):
            join(files, last.video, last.fps)
            self.joined.add(last.video.name)
            self._write()
        for file in files:
            file.unlink(missing_ok=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is complete after an error, for the next call; at the end nothing is left.

        Raises:
            InputError: the folder cannot be made.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be made ({error.strerror}).") from error
        try:
            for part in self.all[: len(self.records)]:
                self._join(part)  # where it was stopped before that
            yield
        except BaseException:
            if not any(record.frames for record in self.records):
                self._delete()
            raise
        self._delete()

    def _delete(self) -> None:
        """The state last: until it is gone, everything counts as complete."""
        paths = sorted(self.folder.iterdir(), key=lambda path: path.name == "state.json")
        for path in paths:
            path.unlink()
        with suppress(OSError):
            self.folder.rmdir()


def _has_content(path: Path) -> bool:
    """Whether a file is there; a power cut may leave empty ones."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def cut(config: SegmentConfig, refs: Sequence[FrameRef], rates: Mapping[str, float]) -> list[Part]:
    """The frames in parts, each of one sequence where every sequence has a video of its own.

    Raises:
        InputError: two sequences would have one video.
    """
    parts, videos = list[Part](), dict[Path, str]()
    for sequence, each in groupby(refs, lambda ref: "" if config.one_video else ref.sequence):
        some = list(each)
        path = config.out if config.one_video else config.out / f"{sequence.replace('/', '-')}.mp4"
        if path in videos and not config.labels:
            raise InputError(
                f"{path}: would hold both {videos[path]} and {sequence}; rename one of them, or "
                "give --out NAME.mp4 for one video of all."
            )
        videos[path] = sequence
        fps = config.fps or rates.get(some[0].sequence) or _FPS
        for first in range(0, len(some), FRAMES_OF_A_PART):
            chosen = some[first : first + FRAMES_OF_A_PART]
            parts.append(Part(len(parts), chosen, None if config.labels else path, fps))
    return parts
