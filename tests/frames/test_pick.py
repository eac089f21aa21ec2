"""Evenly spread frames: where they lie, and what is said where none can be read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpcdr.frames import open_frames
from cpcdr.frames.pick import spread, spread_frames, usual_size, whole_size
from cpcdr.runtime.errors import InputError


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_indices_are_even_and_include_both_ends(count: int, most: int) -> None:
    indices = spread(count, most)
    assert len(indices) == min(count, most) and indices == sorted(set(indices))
    gaps = {b - a for a, b in pairwise(indices)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    if count and most > 1:
        assert indices[0] == 0 and indices[-1] == count - 1


def folder_of(tmp_path: Path, readable: int, broken: int) -> Path:
    street = open_frames("synthetic:streets=1,frames=4,height=32,width=64")
    for i, ref in enumerate(street.refs()[:readable]):
        (tmp_path / f"{i:03d}.png").write_bytes(street.read(ref).encoded)
    for i in range(broken):
        (tmp_path / f"b{i:03d}.png").write_bytes(b"no image")
    return tmp_path


def test_frames_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    source = open_frames(f"images:{folder_of(tmp_path, readable=3, broken=2)}")
    assert [frame.image.shape for frame in spread_frames(source, (16, 24), 9)] == [(16, 24, 3)] * 3
    assert spread_frames(source, (0, 0), 9)[0].image.shape == (32, 64, 3)


def test_no_readable_frame_is_one_sentence(tmp_path: Path) -> None:
    source = open_frames(f"images:{folder_of(tmp_path, readable=0, broken=2)}")
    with pytest.raises(InputError, match=r"no frame can be read; first error: .*b000\.png"):
        spread_frames(source, (0, 0), 9)


def test_the_usual_size_is_that_of_most_frames(tmp_path: Path) -> None:
    for i, (height, width) in enumerate([(40, 60), (30, 90), (30, 90), (30, 90), (40, 60)]):
        path = tmp_path / "drive" / str(i // 3) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((height, width, 3), 9, np.uint8))
    source = open_frames(f"images:{tmp_path}")
    assert usual_size(source) == (30, 90)
    assert whole_size(source, (60, 90)) == (60, 180), "covers the training's size, and all is kept"
    assert whole_size(source, (15, 45)) == (15, 45)
