"""Videos as people have them, cut, joined, damaged and turned: the cases beside the project."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numbered import corners, read_numbers

from cpcdr.depth.triplets import FrameMotion, find_triplets
from cpcdr.frames import FrameOptions, open_frames
from cpcdr.frames.row import REF_SCHEMA
from cpcdr.runtime.errors import FrameError
from cpcdr.runtime.map_frames import blocks_of

CASES = Path(__file__).resolve().parents[2] / ".." / "shared" / "cases"
GAP = [*range(20), *range(50, 60)]

RIGHT: dict[str, list[int]] = {
    "01-interlaced-black/inter.mp4": list(range(20)),
    "01-interlaced-black/inter.ts": list(range(20)),
    "05-estimated-count-phantom-frames/vfr.ts": GAP,
    "05-estimated-count-phantom-frames/gapv.mkv": list(range(6)),
    "06-edit-list-trim/trim.mp4": list(range(42, 56)),
    "06-edit-list-trim/trim2.mp4": [57, 58, 59],
    "07-b-frames-in-avi/h.avi": list(range(30)),
    "07-b-frames-in-avi/m4.avi": list(range(30)),
    "07-b-frames-in-avi/x.avi": list(range(28)),
    "09-ts-joined-overlapping-times/aboff.ts": [*range(100, 112), *range(500, 512)],
    "10-lost-time-is-no-gap/vfr.mp4": GAP,
    "13-pixels-not-square/sar.mp4": list(range(10)),
    "14-suffixes-skipped/base.mp4": list(range(60)),
    "15-av1/av1.mp4": list(range(30)),
    "16-many-packets-between-frames/gopro.mkv": list(range(6)),
    "17-size-change-inside/size2.ts": [*range(100, 112), *range(200, 212)],
    "19-passing/jit.mp4": list(range(60)),
}


def case(name: str) -> Path:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"no {name} in shared/cases")
    return path.resolve()


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("order", ["forward", "backward", "random"])
def test_every_picture_is_at_its_place(name: str, order: str) -> None:
    assert read_numbers(open_frames(f"video:{case(name)}"), order) == RIGHT[name]


def test_interlaced_pictures_are_bright_and_said() -> None:
    for name in ("inter.mp4", "inter.ts"):
        source: Any = open_frames(f"video:{case(f'01-interlaced-black/{name}')}")
        means = [source.read(ref).image.mean() for ref in source.refs()]
        np.testing.assert_allclose(means, 118, atol=4)
        assert "interlaced" in source.notes()[0]


def test_a_window_counts_pictures_that_are_there() -> None:
    path = case("06-edit-list-trim/trim.mp4")
    assert read_numbers(open_frames(f"video:{path}", FrameOptions(window="-6:"))) == [
        *range(50, 56)
    ]


@pytest.mark.parametrize(
    ("name", "last", "first"),
    [
        ("05-estimated-count-phantom-frames/vfr.ts", 19, 20),
        ("10-lost-time-is-no-gap/vfr.mp4", 19, 20),
        ("05-estimated-count-phantom-frames/gapv.mkv", 2, 3),
        ("09-ts-joined-overlapping-times/aboff.ts", 11, 12),
    ],
)
def test_no_triplet_crosses_lost_time(name: str, last: int, first: int) -> None:
    source = open_frames(f"video:{case(name)}")
    refs = source.refs()
    moving = [FrameMotion(ref.frame_id, 1.0, "") for ref in refs]
    triplets = find_triplets(source, moving, 0.0).triplets
    places = [[refs.index(ref) for ref in triplet] for triplet in triplets]
    assert places and not any(row[0] <= last and row[2] >= first for row in places)


def test_what_the_decoder_conceals_is_rejected_and_the_rest_is_exact() -> None:
    whole = open_frames(f"video:{case('11-damage-inside-is-taken-as-good/base.mp4')}")
    expected = [whole.read(ref).image for ref in whole.refs()]
    damaged = open_frames(f"video:{case('08-bad-sector-ends-recording/badsector.mp4')}")
    good = {}
    for ref in damaged.refs():
        try:
            good[ref.frame_index] = damaged.read(ref).image
        except FrameError as error:
            assert "badsector.mp4 is damaged, or follows damage" in str(error)
    assert {*range(14), *range(30, 60)} <= set(good) <= {*range(15), *range(30, 60)}
    for index, image in good.items():
        np.testing.assert_array_equal(image, expected[index])


@pytest.mark.parametrize("order", ["forward", "backward", "random"])
def test_lost_packets_cost_the_pictures_up_to_the_next_key_frame(order: str) -> None:
    source = open_frames(f"video:{case('11-damage-inside-is-taken-as-good/loss.ts')}")
    found = [number for number in read_numbers(source, order) if number is not None]
    assert found == [*range(15), *range(30, 60)]


def test_wide_pixels_and_turned_pictures() -> None:
    source = open_frames(f"video:{case('13-pixels-not-square/sar.mp4')}")
    camera = source.read(source.refs()[0]).intrinsics
    np.testing.assert_allclose(camera[:2], [277.1, 394.1], atol=0.1)
    for name, expected in (
        ("rot90", ["green", "grey", "red", "blue"]),
        ("rot270", ["blue", "red", "grey", "green"]),
    ):
        source = open_frames(f"video:{case(f'19-passing/{name}.mp4')}")
        frames = [source.read(ref) for ref in source.refs()]
        assert [frame.image.shape for frame in frames] == [(320, 240, 3)] * 6
        assert corners(frames[-1].image) == expected


def test_another_size_is_another_sequence() -> None:
    source = open_frames(f"video:{case('17-size-change-inside/size2.ts')}")
    refs = source.refs()
    assert [ref.sequence for ref in refs] == ["size2"] * 12 + ["size2@320x180"] * 12
    first, second = source.read(refs[0]), source.read(refs[12])
    assert (first.image.shape, second.image.shape) == ((240, 320, 3), (180, 320, 3))
    assert (first.intrinsics[3], second.intrinsics[3]) == (119.5, 89.5)


def test_other_suffixes_are_read_and_what_is_no_video_is_counted(tmp_path: Path) -> None:
    base = case("14-suffixes-skipped/base.mp4")
    names = ["a.MTS", "b.hevc", "c.3gp", "d.flv", "e.insv", "f"]
    for name in names:
        shutil.copy(base, tmp_path / name)
    (tmp_path / "notes.txt").write_text("monday: rain\n" * 50)
    (tmp_path / "track.gpx").write_text("<gpx></gpx>")
    (tmp_path / "broken.mp4").write_bytes(b"cut off")
    source: Any = open_frames(f"video:{tmp_path}")
    counts = {name.split(".")[0]: 60 for name in names} | {"broken": 1}
    found = [ref.sequence for ref in source.refs()]
    assert {name: found.count(name) for name in found} == counts
    assert source.notes() == ["2 of 9 files passed over: 1 .txt, 1 .gpx (no video)"]


def test_a_name_that_is_not_utf8_is_read_and_travels_through_arrow(tmp_path: Path) -> None:
    base = case("02-name-not-utf8-segfault/base.mp4")
    shutil.copy(base, os.fsencode(tmp_path) + b"/br\xfccke.mp4")
    shutil.copy(base, tmp_path / "plain.mp4")
    source = open_frames(f"video:{tmp_path}")
    refs = source.refs()
    assert {ref.sequence for ref in refs} == {"br\\xfccke", "plain"}
    assert blocks_of(refs, 200, 1)[0].column_names == REF_SCHEMA.names
    assert read_numbers(source) == [*range(60), *range(60)]
    str(refs[0].frame_id).encode()
    alone = open_frames(f"video:{os.fsdecode(os.fsencode(tmp_path))}/br\udcfccke.mp4")
    alone.spec.encode()
    assert read_numbers(alone) == list(range(60))
