"""Lists of frames made on demand: the same as lists that are held, in memory per recording."""

from __future__ import annotations

import tracemalloc
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numbered import write_numbered

from cpcdr.frames import FrameOptions, FrameRef, open_frames
from cpcdr.frames.frame import parse_window
from cpcdr.frames.joined import JoinedSources
from cpcdr.frames.listing import Chained, Picked, Prefixed, Recording, Runs, Thinned, merged
from cpcdr.frames.stored import select, select_from
from cpcdr.frames.video import VideoFiles
from cpcdr.frames.video_index import VideoIndex
from cpcdr.frames.video_sizes import PictureSize
from cpcdr.runtime.errors import InputError

CHOICES = [
    FrameOptions(),
    FrameOptions(stride=3),
    FrameOptions(window="2:-1"),
    FrameOptions(window="-4:", stride=2),
    FrameOptions(limit=5),
    FrameOptions(window=":6", stride=2, limit=4),
    FrameOptions(limit=1000),
]


def held(refs: Iterable[FrameRef], options: FrameOptions) -> list[FrameRef]:
    """What `select_from` keeps, as plain lists: the reference."""
    window = parse_window(options.window)
    sequences: dict[str, list[FrameRef]] = defaultdict(list)
    for ref in sorted(refs, key=lambda ref: ref.frame_id):
        sequences[ref.sequence].append(ref)
    kept = [r for members in sequences.values() for r in members[window][:: options.stride]]
    kept.sort(key=lambda ref: ref.frame_id)
    if 0 < options.limit < len(kept):
        kept = [kept[i * len(kept) // options.limit] for i in range(options.limit)]
    return kept


def same(lazy: Sequence[FrameRef], expected: list[FrameRef]) -> None:
    """They agree however they are read."""
    assert list(lazy) == expected and len(lazy) == len(expected)
    assert lazy == expected == lazy and lazy != [*expected, expected[0]] and lazy != expected[1:]
    assert [lazy[i] for i in range(len(lazy))] == expected
    assert [lazy[-1 - i] for i in range(len(lazy))] == expected[::-1]
    assert list(reversed(lazy)) == expected[::-1]
    for cut in (slice(2, 7), slice(None, None, 3), slice(-5, None), slice(5, 1), slice(None)):
        assert list(lazy[cut]) == expected[cut]
        assert list(lazy[cut][1::2]) == expected[cut][1::2], "a slice of a slice"
    for beyond in (len(lazy), -len(lazy) - 1):
        with pytest.raises(IndexError):
            lazy[beyond]


RECORDINGS = {
    "one": [Recording("a", range(12), "a.mp4")],
    "gaps": [Recording("a", Runs(np.array([0, 1, 2, 7, 8, 20, 22, 23, 24])), "a.mp4")],
    "names that sort around the slash": [
        Recording("a", range(5), "1"),
        Recording("a@640x480", range(3), "2"),
        Recording("a b", range(4), "3"),
        Recording("a/b", range(4), "4"),
    ],
    "ids that interleave": [
        Recording("a", range(9), "1"),
        Recording("a/00000003", range(4), "2"),
        Recording("a/00000006/0", range(3), "3"),
    ],
    "a sequence of two files": [
        Recording("a", range(8), "1"),
        Recording("a", range(4, 12), "2"),
        Recording("a", range(6, 7), "3"),
    ],
    "numbers of nine digits": [
        Recording("a", range(10**8 - 3, 10**8 + 12)),
        Recording("b", Runs(np.array([10, 10**7, 10**8 - 1, 10**8, 10**8 + 1]))),
    ],
    "more sequences than digits": [Recording(f"s-{i}", range(4)) for i in range(12)],
}


@pytest.mark.parametrize("options", CHOICES, ids=str)
@pytest.mark.parametrize("recordings", RECORDINGS.values(), ids=RECORDINGS)
def test_frames_on_demand_are_those_of_a_list(
    recordings: list[Recording], options: FrameOptions
) -> None:
    refs = [ref for recording in recordings for ref in recording]
    same(select_from(recordings, options), held(refs, options))
    same(select(refs[::-1], options), held(refs[::-1], options))
    joined = merged([Prefixed(select_from(recordings, options), f"{i}/") for i in (0, 1, 10)])
    expected = held(refs, options)
    again = [(f"{i}/{ref.sequence}", ref.frame_index) for i in (0, 1, 10) for ref in expected]
    assert [(ref.sequence, ref.frame_index) for ref in joined] == again


def test_a_window_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="keeps no frame: the longest sequence has 9"):
        select_from(RECORDINGS["gaps"], FrameOptions(window="9:"))


def test_slices_and_runs_stay_small() -> None:
    frames = select_from([Recording("a", range(10**7))], FrameOptions(window="5:-5", stride=2))
    assert isinstance(frames, Picked) and isinstance(frames[10:][::3], Picked)
    assert frames[10:][::3][4] == FrameRef("a", 5 + 2 * (10 + 3 * 4))
    thinned = select_from([Recording("a", range(10**7))], FrameOptions(limit=10**6))
    assert isinstance(thinned, Thinned) and thinned[-1].frame_index == 10**7 - 10


def index_of(indices: np.ndarray, sizes: dict[int, tuple[int, int]], lost: int = 0) -> VideoIndex:
    """What a video is known by, of pictures in the order of their packets."""
    order, one = np.arange(len(indices)), np.zeros(1, np.int64)
    changes = tuple((at, PictureSize(w, h, Fraction(1))) for at, (w, h) in sizes.items())
    places = (order, order.astype(np.int32), order, one, order, order, indices)
    return VideoIndex(0, 1, *places, lost, changes, 30.0, False, False, 0, 0)


@pytest.fixture
def one_video(tmp_path: Path) -> VideoFiles:
    (tmp_path / "drive.mp4").write_bytes(b"video")
    return VideoFiles("video:drive.mp4", tmp_path / "drive.mp4", FrameOptions())


def test_sizes_that_change_and_frames_that_are_cut_off(
    one_video: VideoFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    indices = np.array([0, 1, 2, 5, 6, 7, 8, 9])
    sizes = {0: (64, 48), 2: (32, 24), 4: (64, 48), 6: (16, 16)}
    index = index_of(indices, sizes, lost=2)
    monkeypatch.setattr("cpcdr.frames.video.video_index", lambda _: index)
    path = str(one_video.root)
    by_size = {"drive": (0, 1, 6, 7, 10, 11), "drive@16x16": (8, 9), "drive@32x24": (2, 5)}
    same(one_video.refs(), [FrameRef(n, i, path) for n, some in by_size.items() for i in some])


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_streets_and_videos_agree_with_lists(tmp_path: Path, options: FrameOptions) -> None:
    for name in ("b.mp4", "a.mp4", "a/00000003.mp4"):
        write_numbered(tmp_path / name, range(8))
    (tmp_path / "c.mp4").write_bytes(b"broken")
    sequences = {"b": "b.mp4", "a": "a.mp4", "a/00000003": "a/00000003.mp4"}
    refs = [FrameRef(n, i, str(tmp_path / f)) for n, f in sequences.items() for i in range(8)]
    broken = FrameRef("c", 0, str(tmp_path / "c.mp4"))
    video = open_frames(f"video:{tmp_path}", options)
    same(video.refs(), held([*refs, broken], options))
    street = open_frames("synthetic:streets=3,frames=7,seed=2", options)
    rendered = [FrameRef(f"street-002-{k:03d}", i) for k in range(3) for i in range(7)]
    same(street.refs(), held(rendered, options))
    both = JoinedSources("two", (video, street), FrameOptions(limit=options.limit))
    parts = [
        FrameRef(f"{i}/{r.sequence}", r.frame_index, r.path)
        for i, part in enumerate((video, street))
        for r in part.refs()
    ]
    same(both.refs(), held(parts, both.options))


def test_memory_is_per_recording(one_video: VideoFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = 10**6
    index = index_of(np.arange(frames) + np.arange(frames) // 1000, {0: (64, 48)})
    monkeypatch.setattr("cpcdr.frames.video.video_index", lambda _: index)
    tracemalloc.start()
    try:
        refs = one_video.refs()
        held_now = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(refs) == frames and held_now < 100_000, "16 bytes for each of a thousand gaps"
    street = open_frames("synthetic:streets=3,frames=90000000").refs()
    assert isinstance(street, Chained) and len(street) == 270_000_000
    assert street[100_000_000] == FrameRef("street-000-001", 10_000_000)
