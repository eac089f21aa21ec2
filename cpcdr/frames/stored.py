"""Frames that are stored as image files: listing, numbering, choosing and reading them."""

import os
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.decode import image_size, read_image, read_label_map
from cpcdr.frames.frame import BREAK, Frame, FrameOptions, FrameRef, parse_window
from cpcdr.frames.intrinsics import Intrinsics, check_inside, note
from cpcdr.frames.listing import Thinned, merged
from cpcdr.frames.protocols import get_protocol
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.names import readable, real_path

_SUBSECOND_DIGITS = 6
_SIZES_READ = 64
"""Headers of a folder that are read to learn the size of its images."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class StoredFrames:
    """A source of frames in files below a folder ``root``.

    Attributes:
        kind: what stands before the colon of its spec.
        holds: folders that must be in ``root``.
        remedy: what to do where one of them is not; may contain ``{argument}``.
    """

    kind: ClassVar[str]
    holds: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = ""
    spec: str
    root: Path
    options: FrameOptions
    protocol: str = ""

    @classmethod
    def parse(cls, argument: str, options: FrameOptions) -> Self:
        """The source at what follows the colon of a spec.

        Raises:
            InputError: it does not exist, or is not such a folder.
        """
        path = real_path(str(Path(argument).expanduser().absolute()))
        spec = f"{cls.kind}:{argument}"
        if not argument or not path.exists():
            raise InputError(f"{spec} does not exist: give the path of a folder.")
        if not path.is_dir():
            raise InputError(f"{spec} is a file: give the path of a folder.")
        for name in cls.holds:
            if not (path / name).is_dir():
                remedy = cls.remedy.format(argument=argument)
                raise InputError(f"{spec} has no folder {name}/: {remedy}.")
        return cls(readable(spec), path, options)

    @property
    def intrinsics_note(self) -> str:
        return note(self.options)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorting key with numbers in their order: ``frame2`` before ``frame10``."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    ]


def if_file(path: Path) -> str:
    """The path of an existing file, else ``""``."""
    return str(path) if path.is_file() else ""


def walk_files(root: Path, suffixes: tuple[str, ...]) -> dict[Path, list[Path]]:
    """Files under ``root`` by folder, both in natural order; hidden files and folders are skipped.

    Links to folders are followed, each real folder once.
    """
    by_folder: dict[Path, list[Path]] = {}
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted((s for s in subfolders if not s.startswith(".")), key=natural_key)
        visible = list_files(Path(folder), suffixes, files)
        if visible:
            by_folder[Path(folder)] = visible
    return by_folder


def list_files(
    folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES, names: Iterable[str] | None = None
) -> list[Path]:
    """The files of one folder with one of ``suffixes`` (lower case), in natural order."""
    if names is None:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    visible = [n for n in names if n.lower().endswith(suffixes) and not n.startswith(".")]
    return [folder / name for name in sorted(visible, key=natural_key)]


def passed_over(files: list[Path], used: list[Path], what: str) -> list[str]:
    """A sentence on the files of a folder that are not used; none if all are.

    >>> passed_over([Path("a.mp4"), Path("a.txt"), Path("b.txt")], [Path("a.mp4")], "video")
    ['2 of 3 files passed over: 2 .txt (no video)']
    """
    left = sorted(set(files) - set(used))
    if not left:
        return []
    suffixes = Counter(readable(file.suffix.lower()) or file.name for file in left)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(8))
    more = ", ..." if len(suffixes) > 8 else ""
    return [f"{len(left)} of {len(files)} files passed over: {kinds}{more} (no {what})"]


def list_folders(folder: Path) -> list[Path]:
    """The visible subfolders in natural order; empty where ``folder`` does not exist."""
    if not folder.is_dir():
        return []
    names = [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return [folder / name for name in sorted(names, key=natural_key)]


def frame_number(stem: str, default: int) -> int:
    """The last number in a file's stem, ``default`` where there is none or it is too long."""
    numbers = re.findall(r"[0-9]+", stem)
    number = int(numbers[-1]) if numbers else default
    return number if number < 10**8 else default


def frame_indices(stems: list[str]) -> list[int]:
    """Frame indices of files in order: consecutive frames get consecutive indices, gaps stay gaps.

    The number in the names that changes most often decides, the last one of several, in units of
    its usual step (7959, 7961, 7965 gives 0, 1, 3). Where it falls, another recording begins, and
    `BREAK` indices are left out; names without numbers are consecutive.

    >>> frame_indices(["a_7959", "a_7961", "a_7965"])
    [0, 1, 3]
    >>> frame_indices(["100_camera_5", "200_camera_5", "700_camera_5", "800_camera_5"])
    [0, 1, 6, 7]
    >>> frame_indices(["n8_30", "n8_40", "n15_20", "n15_30"])
    [0, 1, 1001, 1002]
    >>> frame_indices(["left", "middle", "right"])
    [0, 1, 2]
    """
    steps = _steps([re.findall(r"[0-9]+", stem)[::-1] for stem in stems])
    rising = [step for step in steps if step is not None and step > 0]
    usual = statistics.median_low(rising) if rising else 1
    indices = [0] if stems else []
    for step in steps:
        frames = 1 if step is None or step == 0 else max(1, round(step / usual))
        indices.append(indices[-1] + (min(frames, BREAK) if step is None or step >= 0 else BREAK))
    return indices


def _steps(numbers: list[list[str]]) -> list[int | None]:
    """What the counting number gains from each name to the next; its numbers come last first."""
    changes = Counter(
        place
        for before, after in pairwise(numbers)
        for place, (old, new) in enumerate(zip(before, after, strict=False))
        if int(old) != int(new)
    )
    counting = max(changes, key=lambda place: (changes[place], -place), default=0)
    return [
        _gained(before, after, counting) if counting < min(len(before), len(after)) else None
        for before, after in pairwise(numbers)
    ]


def _gained(before: list[str], after: list[str], place: int) -> int:
    """The step of the number at a place; of seconds and nanoseconds apart, the carry counts too."""
    step = int(after[place]) - int(before[place])
    higher = place + 1 < min(len(before), len(after))
    carries = higher and int(after[place + 1]) == int(before[place + 1]) + 1
    if step < 0 and carries and len(before[place]) == len(after[place]) >= _SUBSECOND_DIGITS:
        return step + 10 ** len(after[place])
    return step


def select(refs: Iterable[FrameRef], options: FrameOptions) -> Sequence[FrameRef]:
    """`select_from` for frames in files of their own, which are held: they have a name each."""
    sequences: dict[str, list[FrameRef]] = defaultdict(list)
    for ref in sorted(refs, key=lambda ref: ref.frame_id):
        sequences[ref.sequence].append(ref)
    return select_from(sequences.values(), options)


def select_from(
    recordings: Iterable[Sequence[FrameRef]], options: FrameOptions
) -> Sequence[FrameRef]:
    """The frames that ``window``, ``stride`` and ``limit`` keep, sorted by ``frame_id``.

    Indices and ids stay those of the recording, so that a frame has one name whatever is kept.

    Args:
        recordings: each has frames, all of one sequence, sorted by ``frame_id``.

    Raises:
        InputError: the window holds no frame of any sequence.
    """
    window = parse_window(options.window)
    parts: dict[str, list[Sequence[FrameRef]]] = defaultdict(list)
    for recording in recordings:
        parts[recording[0].sequence].append(recording)
    sequences = [merged(together) for together in parts.values()]
    kept = merged([sequence[window][:: options.stride] for sequence in sequences])
    if sequences and not kept:
        longest = max(map(len, sequences))
        raise InputError(
            f"--options.window {options.window} keeps no frame: the longest sequence has {longest}."
        )
    return limited(kept, options.limit)


def limited(refs: Sequence[FrameRef], limit: int) -> Sequence[FrameRef]:
    """At most ``limit`` of the frames, spread evenly; 0 keeps all."""
    return Thinned(refs, limit) if 0 < limit < len(refs) else refs


def read_stored(
    ref: FrameRef,
    spec: str,
    camera: Callable[[tuple[int, int]], Intrinsics],
    protocol: str = "",
    sequence_prefix: str = "",
    read_labels: Callable[[str], NDArray[np.integer]] = read_label_map,
) -> Frame:
    """Read one frame stored as an image file, with its label map where it has one.

    Args:
        camera: intrinsics for an image of (H, W).
        sequence_prefix: what the names of the sequence's files in their folder begin with.
        read_labels: makes label ids of a label file.

    Raises:
        FrameError: image or labels are broken, their sizes differ, or the size is not that of most
            frames of the sequence.
    """
    encoded, image = read_image(ref.path)
    height, width = image.shape[:2]
    folder = real_path(ref.path).parent
    expected = _sequence_size(folder, sequence_prefix, folder.stat().st_mtime_ns)
    if expected is not None and expected != (height, width):
        raise FrameError(
            f"{ref.path} is {width}×{height}, but most of its sequence is "
            f"{expected[1]}×{expected[0]}: keep frames of one size in one folder."
        )
    labels = None
    if ref.label_path:
        labels = get_protocol(protocol).train_ids(read_labels(ref.label_path), ref.label_path)
        if labels.shape != (height, width):
            raise FrameError(
                f"{ref.label_path} is {labels.shape[1]}×{labels.shape[0]}, but its image is "
                f"{width}×{height}: give labels of the image's size."
            )
    try:
        intrinsics = camera((height, width))
    except FrameError:
        raise
    except InputError as error:  # a calibration file that broke after the source was opened
        raise FrameError(str(error)) from error
    check_inside(intrinsics, (height, width), ref.path)
    return Frame(ref, encoded, image, intrinsics, spec, labels)


@lru_cache(maxsize=4096)
def _sequence_size(folder: Path, prefix: str, modified: int) -> tuple[int, int] | None:
    """(H, W) of most images of a sequence, of those spread over it if it is long.

    Looked up once for each state of the folder; None if no header can be read.
    """
    files = [path for path in list_files(folder) if path.name.startswith(prefix)]
    spread = files[:: -(-len(files) // _SIZES_READ)] if files else []
    sizes = Counter(size for size in map(image_size, spread) if size is not None)
    return sizes.most_common(1)[0][0] if sizes else None
