"""Frames with maps, one by one and several at once: the same, in order, errors in their places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cpcdr.depth import source as depth_source
from cpcdr.depth.source import DepthError, Disparity
from cpcdr.depth.sources import GroundTruth
from cpcdr.evaluate.depth_maps import frames_with_maps
from cpcdr.frames import Frame, open_frames
from cpcdr.frames.frame import FrameRef
from cpcdr.runtime.errors import FrameError

SPEC = "synthetic:streets=1,frames=9,height=64,width=128"


class SomeBad:
    """Exact depth, but for some frames; notes how many frames each call has."""

    name = "some bad"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        self.calls.append(len(frames))
        for frame in frames:
            if frame.ref.frame_index in (2, 5):
                raise DepthError(f"no depth at {frame.ref.frame_index}")
        return GroundTruth()(frames)


@pytest.mark.parametrize("gpu", [False, True])
def test_every_frame_has_its_maps_or_its_error(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_source, "has_gpu", lambda: gpu)
    source, some = open_frames(SPEC), SomeBad()
    refs = list(source.refs())
    missing = replace(refs[7], frame_index=99)
    refs[7:8] = [FrameRef(missing.sequence, 99)]
    found = list(frames_with_maps(source, [GroundTruth(), some], refs, (32, 64)))
    assert len(found) == 9
    for ref, result in zip(refs, found, strict=True):
        if ref.frame_index in (2, 5):
            assert str(result) == f"no depth at {ref.frame_index}"
        elif ref.frame_index == 99:
            assert isinstance(result, FrameError)
        else:
            assert not isinstance(result, FrameError)
            frame, (true, estimated) = result
            assert frame.ref == ref and frame.image.shape == (32, 64, 3)
            np.testing.assert_array_equal(true, frame.disparity)
            np.testing.assert_array_equal(true, estimated)
    assert some.calls == ([7] + [1] * 7 + [1] if gpu else [1] * 8)
