"""Stages on frames in whatever company they come."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cpcdr.depth.sources import open_depth
from cpcdr.frames import open_frames
from cpcdr.prepare.draft import Draft
from cpcdr.prepare.stages import EstimateDepth, ReadFrames

STREET = "synthetic:streets=3,frames=2,height=96,width=192,seed=7"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's sums are not promised to be equal")
def test_depth_does_not_depend_on_the_frames_beside_it() -> None:
    """A resumed dataset cuts other batches, and is bit-equal."""
    source = open_frames(STREET)
    read = ReadFrames(source, (0, 0))([Draft(ref) for ref in source.refs()])
    stage = EstimateDepth(open_depth("street"))
    together = stage(read)
    for cut in ([0, 1, 2], [3], [5, 4]):
        for i, draft in zip(cut, stage([read[i] for i in cut]), strict=True):
            assert draft.frame is not None and together[i].frame is not None
            np.testing.assert_array_equal(draft.frame.disparity, together[i].frame.disparity)
