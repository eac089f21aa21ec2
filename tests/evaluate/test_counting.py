"""Counts of frames: left-out ones, any order, groups of frames in a bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cpcdr.evaluate.baselines import fit_colour_position
from cpcdr.evaluate.counting import (
    MOST_GROUPS,
    NETWORK,
    STRETCHES,
    SegmentFrames,
    add_up,
    resampled_groups,
)
from cpcdr.frames import FrameRef, open_frames
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.map_frames import table_of

CLUSTERS = np.array([0, 1, 1])


def test_a_broken_frame_is_left_out_and_reported() -> None:
    source = open_frames("synthetic:streets=2,frames=2,height=64,width=128,seed=7")
    actor = SegmentFrames(source, (64, 128), {}, {}, 7)
    ref = source.refs()[0]
    broken = type(ref)(ref.sequence, 99)
    rows = actor.count([broken, ref])
    assert "99" in rows[0]["reason"] and not rows[1]["reason"]


def test_several_frames_at_once_are_counted_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_frames("synthetic:streets=2,frames=3,height=64,width=128,seed=7")
    images = [source.read(ref).image for ref in source.refs()]
    segmenters = {NETWORK: fit_colour_position(images, 7)}
    actor = SegmentFrames(source, (64, 128), segmenters, {NETWORK: 7}, 7)
    broken = type(source.refs()[0])(source.refs()[0].sequence, 99)
    table = table_of([*source.refs()[:2], broken, *source.refs()[2:]])
    alone = actor(table).to_pylist()
    monkeypatch.setattr("cpcdr.evaluate.counting.images_at_once", lambda device, size: 4)
    assert actor(table).to_pylist() == alone and len(alone) == 7
    assert [bool(row["reason"]) for row in alone] == [False, False, True, *4 * [False]]


def rows(refs: list[FrameRef]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    table = []
    for ref in refs:
        counts = rng.integers(1, 9, (3, 2))
        usage = counts.sum(1)
        row = {"frame_id": ref.frame_id, "reason": "", "usage": usage.tobytes()}
        table.append(row | {NETWORK: counts.tobytes()})
    return table


@pytest.mark.parametrize(
    ("drives", "length", "groups", "unit"),
    [
        (1, 5, 5, "frames"),
        (2, 30, STRETCHES, "stretches of consecutive frames"),
        (9, 3, 9, "drives"),
        (MOST_GROUPS + 50, 1, MOST_GROUPS, "groups of drives"),
    ],
)
def test_what_is_resampled_are_drives_or_stretches(
    drives: int, length: int, groups: int, unit: str
) -> None:
    refs = [FrameRef(f"{drive:04d}", i) for drive in range(drives) for i in range(length)]
    all_rows = rows(refs)
    of_frame, found = resampled_groups(refs)
    assert found == unit and len(np.unique(of_frame)) == groups
    assert (np.diff(of_frame) >= 0).all(), "frames in a row"
    totals = add_up(all_rows, refs, {NETWORK: 3}, 2, CLUSTERS, "spec")
    single = np.array([np.frombuffer(row[NETWORK], np.int64).reshape(3, 2) for row in all_rows])
    np.testing.assert_array_equal(totals[NETWORK], single.sum(0))
    np.testing.assert_array_equal(totals["usage"], single.sum((0, 2)))
    folded = np.stack([single[:, 0], single[:, 1] + single[:, 2]], axis=1)
    assert len(totals["groups"]) == groups and totals["frames"] == len(refs)
    for group in range(groups):
        np.testing.assert_array_equal(totals["groups"][group], folded[of_frame == group].sum(0))
    shuffled = [all_rows[i] for i in np.random.default_rng(1).permutation(len(refs))]
    again = add_up(shuffled, refs, {NETWORK: 3}, 2, CLUSTERS, "spec")
    assert all(np.array_equal(totals[name], again[name]) for name in totals)


def test_left_out_frames_count_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    refs = [FrameRef("a", i) for i in range(3)]
    some = rows(refs)
    some[1] |= {"reason": "torn", NETWORK: b"", "usage": b""}
    some[2] |= {NETWORK: b""}  # without labels
    totals = add_up(some, refs, {NETWORK: 3}, 2, CLUSTERS, "spec")
    assert totals["frames"] == 2 and totals["groups"].any((1, 2)).tolist() == [True, False, False]
    assert "1 frame left out; first error: torn" in capsys.readouterr().out
    with pytest.raises(InputError, match="spec: no frame can be evaluated; first error: torn"):
        add_up([some[1]], refs, {NETWORK: 3}, 2, CLUSTERS, "spec")
