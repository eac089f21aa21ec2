"""Frames out of video files, one by one and exactly: ``video:FILE`` and ``video:FOLDER``."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.decode import decode_image, encode_jpeg
from cpcdr.frames.frame import Frame, FrameOptions, FrameRef
from cpcdr.frames.intrinsics import check_inside, given_or_assumed
from cpcdr.frames.listing import Recording, Runs
from cpcdr.frames.stored import IMAGE_SUFFIXES, StoredFrames, passed_over, select_from, walk_files
from cpcdr.frames.video_index import VideoIndex, open_container, read_index, video_streams
from cpcdr.frames.video_reader import open_reader
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.names import readable, real_path

VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv"),
    *(".mts", ".m2ts", ".3gp", ".3g2", ".flv", ".hevc", ".h265", ".h264", ".264", ".265"),
    *(".dv", ".vob", ".asf", ".mxf", ".ogv", ".ivf", ".mjpeg", ".mjpg"),
)
"""Names of videos: such a file that cannot be read is rejected with a reason. Other files of a
folder are opened, and read if they contain video."""

_TAIL = 1 << 20
"""Bytes that may follow the last picture: sound, and the container's own index."""


class VideoFiles(StoredFrames):
    """One video, or every video below a folder; a sequence is named after its file.

    Below a folder the name has the relative folder before it, and the suffix only where two files
    differ by nothing else. A broken video among others is listed with one frame that cannot be
    read, so that it is rejected with a reason and the others are used. Where pictures of another
    size begin, so does another sequence, ``NAME@WIDTHxHEIGHT``.
    """

    kind = "video"

    @classmethod
    def parse(cls, argument: str, options: FrameOptions) -> Self:
        root = real_path(str(Path(argument).expanduser().absolute()))
        if not argument or not root.exists():
            raise InputError(
                f"video:{readable(argument)} does not exist: give a video file or a folder of "
                "videos."
            )
        return cls(f"video:{readable(argument)}", root, options)

    def refs(self) -> Sequence[FrameRef]:
        recordings, broken = list[Recording](), 0
        for name, file in self._named_files():
            try:
                recordings += _recordings(name, file)
            except InputError:
                if self.root.is_file():
                    raise
                recordings.append(Recording(name, range(1), readable(file)))
                broken += 1
        if broken == len(recordings):
            raise InputError(
                f"{self.spec} holds no readable video ({' '.join(VIDEO_SUFFIXES)}; {broken} "
                "broken): give the folder that contains the recordings."
            )
        return select_from(recordings, self.options)

    def read(self, ref: FrameRef) -> Frame:
        path = real_path(ref.path)
        try:
            stamp = _stamp(path)
            image, aspect = open_reader(path, *stamp).read(ref.frame_index)
        except FrameError:
            raise
        except InputError as error:
            raise FrameError(str(error)) from error
        encoded = encode_jpeg(image)
        image = decode_image(encoded, ref.frame_id)
        size = (image.shape[0], image.shape[1])
        intrinsics = given_or_assumed(self.options, size, aspect)
        check_inside(intrinsics, size, ref.path)
        return Frame(ref, encoded, image, intrinsics, self.spec)

    def notes(self) -> list[str]:
        """Notes for the user: which files are skipped, and how frames are changed."""
        notes = []
        if self.root.is_dir():
            notes = passed_over(self._every_file(), self._files(), "video")
        sequences = defaultdict(list)
        for name, index in self._indices():
            for sentence in _notes(index):
                sequences[sentence].append(name)
        for sentence, names in sequences.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes.append(f"{sentence}: {', '.join(names[:3])}{more}")
        return notes

    def frame_rates(self) -> dict[str, float]:
        """Nominal frames a second by sequence, counting those only that the options keep."""
        kept = self._kept()
        return {
            sequence: round(index.rate / self.options.stride * kept, 3)
            for name, index in self._indices()
            for sequence in {_sequence(name, index, packet) for packet, _ in index.changes}
        }

    def _kept(self) -> float:
        """The part of the frames that ``limit`` keeps, spread evenly over the sequences."""
        if not self.options.limit:
            return 1.0
        every = replace(self, options=replace(self.options, limit=0))
        return len(self.refs()) / len(every.refs())

    def _indices(self) -> Iterator[tuple[str, VideoIndex]]:
        for name, file in self._named_files():
            with suppress(InputError):  # it is rejected with a reason
                yield name, video_index(file)

    def _named_files(self) -> list[tuple[str, Path]]:
        """(sequence, file) of every video."""
        if self.root.is_file():
            return [(readable(self.root.stem), self.root)]
        files = self._files()
        stems = Counter(file.with_suffix("") for file in files)
        named = [
            file if stems[file.with_suffix("")] > 1 else file.with_suffix("") for file in files
        ]
        names = [readable(name.relative_to(self.root).as_posix()) for name in named]
        return list(zip(names, files, strict=True))

    def _files(self) -> list[Path]:
        """The videos below the folder, by their names or by their content."""
        return [file for file in self._every_file() if _is_video(file)]

    def _every_file(self) -> list[Path]:
        return [f for files in walk_files(self.root, ("",)).values() for f in files]


def video_index(path: Path) -> VideoIndex:
    """The index of a video file, read once a process.

    Raises:
        InputError: the file is missing, empty, truncated beyond reading or not a video.
    """
    return read_index(path, *_stamp(path))


def _recordings(name: str, file: Path) -> list[Recording]:
    """A frame for each picture of a video, and for each that is cut off from it."""
    index, path = video_index(file), readable(file)
    by_size = _indices_by_size(name, index).items()
    recordings = [Recording(sequence, Runs(indices), path) for sequence, indices in by_size]
    if index.lost:
        end = int(index.frame_indices[-1]) + 1
        recordings.append(Recording(name, range(end, end + index.lost), path))
    return recordings


def _indices_by_size(name: str, index: VideoIndex) -> dict[str, NDArray[np.int64]]:
    """The frame indices of a video's sequences, one for each size that a picture has."""
    begins = [packet for packet, _ in index.changes]
    names = [_sequence(name, index, packet) for packet in begins]
    if set(names) == {name}:  # nearly always, and then no array of millions is made
        return {name: index.frame_indices}
    change = np.searchsorted(begins, index.packets, "right") - 1
    own = {n: np.isin(change, [i for i, m in enumerate(names) if m == n]) for n in names}
    return {sequence: index.frame_indices[of] for sequence, of in own.items() if of.any()}


def _sequence(name: str, index: VideoIndex, packet: int) -> str:
    first, size = index.changes[0][1], index.size_of(packet)
    return name if size == first else f"{name}@{size.width}x{size.height}"


def _notes(index: VideoIndex) -> list[str]:
    notes = []
    if index.interlaced:
        notes.append("interlaced; the upper field is taken, and the lines between are interpolated")
    aspects = {size.aspect for _, size in index.changes} - {Fraction(1)}
    notes += [f"pixels {a.numerator}:{a.denominator}, which intrinsics follow" for a in aspects]
    if index.broken_off:
        notes.append("cannot be read to its end; what comes after is not counted")
    if index.unread > max(_TAIL, int(index.sizes.sum()) // 4):
        notes.append(f"no picture is found in its last {index.unread >> 20} MiB")
    if index.streams > 1:
        notes.append(f"{index.streams} video tracks, of which number {index.stream} is read")
    return notes


def _is_video(file: Path) -> bool:
    """Whether a file is named as a video, or contains one under another name."""
    name = file.name.lower()
    if name.endswith(VIDEO_SUFFIXES) or name.endswith(IMAGE_SUFFIXES):
        return name.endswith(VIDEO_SUFFIXES)
    try:
        return _contains_video(file, *_stamp(file))
    except InputError:
        return False


@lru_cache(maxsize=4096)
def _contains_video(file: Path, modified: int, length: int) -> bool:
    with open_container(file) as container:
        return bool(video_streams(container))


def _stamp(path: Path) -> tuple[int, int]:
    """(modification time in ns, size in bytes): a changed file is read anew."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(
            f"{readable(path)} cannot be read ({error.strerror}): give an existing video."
        ) from error
    if not status.st_size:
        raise InputError(f"{readable(path)} is empty (0 bytes): copy the video again or remove it.")
    return status.st_mtime_ns, status.st_size
