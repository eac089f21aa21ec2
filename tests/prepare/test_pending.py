"""What is not done yet, by merging sorted ids: the same as by a set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cpcdr.frames import FrameRef
from cpcdr.frames.listing import Recording
from cpcdr.prepare import pending
from cpcdr.prepare.pending import Pending

REFS = [*Recording("a", range(9)), *Recording("ä", range(7)), *Recording("東京", range(5))]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("together", [1, 4, 100])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_merging_agrees_with_a_set(
    monkeypatch: pytest.MonkeyPatch, kind: pa.DataType, together: int, share: float
) -> None:
    monkeypatch.setattr(pending, "_TOGETHER", together)
    drawn = np.random.default_rng(together).random(len(REFS)) < share
    done = {ref.frame_id for ref, is_done in zip(REFS, drawn, strict=True) if is_done}
    others = {"A/00000001", "a/00000003/00000000", "z/00000000", "龍/00000000"} if done else set()
    left = Pending(REFS, pa.array(sorted(done | others), kind))
    expected = [ref for ref in REFS if ref.frame_id not in done]
    assert list(left) == expected and len(left) == len(expected)
    assert list(left) == expected, "as often as it is asked for"


def test_nothing_to_do() -> None:
    assert not Pending([], pa.array([], pa.string()))
    ids = pa.array([ref.frame_id for ref in REFS])
    assert not Pending(REFS, ids) and list(Pending([FrameRef("b", 0)], ids)) == [FrameRef("b", 0)]
