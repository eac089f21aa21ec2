"""Several sources as one: ``video:a.mp4,kitti-odometry:dataset``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cpcdr.frames.frame import Frame, FrameOptions, FrameRef, FrameSource
from cpcdr.frames.listing import Prefixed, merged
from cpcdr.frames.stored import limited


@dataclass(frozen=True)
class JoinedSources:
    """The frames of all ``parts``; a part's position goes before its sequences' names.

    Every frame keeps the spec of its part as its source. Labels are kept where all labelled parts
    have one protocol; otherwise the numbers would mean different classes, so they are dropped.
    """

    spec: str
    parts: tuple[FrameSource, ...]
    options: FrameOptions

    @property
    def protocol(self) -> str:
        names = {part.protocol for part in self.parts} - {""}
        return names.pop() if len(names) == 1 else ""

    @property
    def intrinsics_note(self) -> str:
        return "; ".join(f"{part.spec}: {part.intrinsics_note}" for part in self.parts)

    def refs(self) -> Sequence[FrameRef]:
        parts = [Prefixed(part.refs(), f"{i}/") for i, part in enumerate(self.parts)]
        return limited(merged(parts), self.options.limit)  # the parts have applied the rest

    def notes(self) -> list[str]:
        """What a user should know of the files of each part."""
        return [f"{part.spec}: {note}" for part in self.parts for note in notes_of(part)]

    def camera_files(self) -> list[Path]:
        """Calibration and pose files of all parts."""
        return [path for part in self.parts for path in camera_files_of(part)]

    def frame_rates(self) -> dict[str, float]:
        """Nominal frames a second by sequence, of parts that are video."""
        rates = [frame_rates_of(part) for part in self.parts]
        return {
            f"{at}/{name}": rate for at, part in enumerate(rates) for name, rate in part.items()
        }

    def read(self, ref: FrameRef) -> Frame:
        position, _, sequence = ref.sequence.partition("/")
        frame = self.parts[int(position)].read(replace(ref, sequence=sequence))
        return replace(frame, ref=ref, labels=frame.labels if self.protocol else None)


def notes_of(source: FrameSource) -> list[str]:
    """Notes on a source's files for the user, without a full stop: what is skipped or changed."""
    return source.notes() if hasattr(source, "notes") else []


def frame_rates_of(source: FrameSource) -> dict[str, float]:
    """Nominal frames a second by sequence; empty where the source is not video."""
    return source.frame_rates() if hasattr(source, "frame_rates") else {}


def camera_files_of(source: FrameSource) -> list[Path]:
    """Files beside the frames that intrinsics and poses come from, sorted."""
    return source.camera_files() if hasattr(source, "camera_files") else []
