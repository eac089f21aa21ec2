"""The camera that a depth network learned from its video, for uncalibrated frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cpcdr.frames.frame import Frame, FrameRef, FrameSource
from cpcdr.frames.intrinsics import (
    ASSUMED,
    Intrinsics,
    check_inside,
    field_of_view,
    intrinsics_text,
)
from cpcdr.frames.joined import JoinedSources
from cpcdr.frames.resize import unfit_intrinsics


@dataclass(frozen=True)
class LearnedCamera:
    """One camera for all frames that a network was trained on.

    Attributes:
        values: fx, fy, cx, cy in pixels of a frame fit to ``size``.
        size: (H, W) of the training.
    """

    values: tuple[float, float, float, float]
    size: tuple[int, int]

    def intrinsics(self, size: tuple[int, ...]) -> Intrinsics:
        """float32 [4] fx, fy, cx, cy in pixels of an unscaled frame of size (H, W)."""
        return unfit_intrinsics(np.array(self.values), size, self.size)

    def facts(self, size: tuple[int, ...]) -> dict[str, str | float]:
        """The camera as reported to users, for frames of size (H, W).

        Returns:
            ``learned_intrinsics`` as ``--options.intrinsics`` takes them, and ``learned_fov``, the
            horizontal field of view in degrees.
        """
        camera = self.intrinsics(size)
        degrees = field_of_view(float(camera[0]), size[1])
        return {"learned_intrinsics": intrinsics_text(camera), "learned_fov": round(degrees, 1)}


class WithCamera:
    """The frames of a source with a learned camera; a `FrameSource`."""

    def __init__(self, source: FrameSource, camera: LearnedCamera, name: str) -> None:
        self.spec, self.protocol = source.spec, source.protocol
        values, (height, width) = intrinsics_text(np.array(camera.values)), camera.size
        self.intrinsics_note = f"learned by {name}: {values} at {width}×{height} pixels"
        self._source, self._camera = source, camera

    def refs(self) -> Sequence[FrameRef]:
        """Every frame of the source."""
        return self._source.refs()

    def read(self, ref: FrameRef) -> Frame:
        """The frame with the learned intrinsics, in pixels of its original size.

        Raises:
            FrameError: it cannot be read, or the learned camera is implausible.
        """
        frame = self._source.read(ref)
        height, width = frame.image.shape[:2]
        intrinsics = self._camera.intrinsics((height, width))
        check_inside(intrinsics, (height, width), ref.path or ref.frame_id)
        return replace(frame, intrinsics=intrinsics)


def where_assumed(source: FrameSource, camera: LearnedCamera, name: str) -> FrameSource:
    """The source with a learned camera in place of an assumed one.

    Joined sources are handled part by part: given and calibrated cameras stay.
    """
    if isinstance(source, JoinedSources):
        return replace(source, parts=tuple(where_assumed(p, camera, name) for p in source.parts))
    if not source.intrinsics_note.startswith(ASSUMED):
        return source
    return WithCamera(source, camera, name)
