"""Several sources as one: ``video:a.mp4,kitti-odometry:dataset``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cpcdr.frames.frame import Frame, FrameOptions, FrameRef, FrameSource
from cpcdr.frames.stored import select


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

    def refs(self) -> list[FrameRef]:
        refs = [
            replace(ref, sequence=f"{position}/{ref.sequence}")
            for position, part in enumerate(self.parts)
            for ref in part.refs()
        ]
        own = replace(self.options, stride=1, window="")  # the parts have applied theirs
        return select(refs, own)

    def read(self, ref: FrameRef) -> Frame:
        position, _, sequence = ref.sequence.partition("/")
        frame = self.parts[int(position)].read(replace(ref, sequence=sequence))
        return replace(frame, ref=ref, labels=frame.labels if self.protocol else None)
