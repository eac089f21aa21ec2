"""How far apart frames of a triplet lie, and which triplets are kept for checking."""

from __future__ import annotations

import pytest

from cpcdr.depth.triplets import held_out, motion_spacing
from cpcdr.frames.frame import FrameRef


@pytest.mark.parametrize(
    ("flow", "spacing"),
    [(0.03, (1,)), (0.014, (1,)), (0.0075, (1, 2)), (0.004, (2, 4)), (0.0001, (2, 5))],
)
def test_less_motion_wants_frames_further_apart(flow: float, spacing: tuple[int, ...]) -> None:
    assert motion_spacing([flow, flow, 50 * flow]) == spacing


def triplets(count: int, apart: int) -> list[tuple[FrameRef, FrameRef, FrameRef]]:
    refs = [FrameRef("s", i) for i in range(count + 2 * apart)]
    return [(refs[i], refs[i + apart], refs[i + 2 * apart]) for i in range(count)]


@pytest.mark.parametrize("count", [40, 100, 400])
@pytest.mark.parametrize("apart", [1, 4])
def test_held_out_triplets_share_no_frame_with_the_others(count: int, apart: int) -> None:
    every = triplets(count, apart)
    trained, held = held_out(every)
    assert 4 <= len(held) <= 16 and len(trained) >= 0.5 * count
    seen = {ref for triplet in trained for ref in triplet}
    assert not seen & {ref for triplet in held for ref in triplet}
    assert set(trained) <= set(every) and held_out(every) == (trained, held)


def test_few_triplets_are_all_trained_on() -> None:
    assert held_out(triplets(39, 1)) == (triplets(39, 1), [])
