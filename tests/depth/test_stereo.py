"""Stereo pairs: known shifts are recovered, holes stay invalid, other images are refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cpcdr.depth.sources import open_depth
from cpcdr.depth.stereo import match, search_range
from cpcdr.frames import fit
from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.runtime.errors import FrameError

H, W = 96, 256


def pair(near: int = 12, far: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A textured wall ``far`` pixels of disparity away with a box ``near`` pixels away."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (H, W + 40, 3)).astype(np.uint8), (0, 0), 1.0)
    shift = np.full((H, W), far)
    shift[30:80, 100:180] = near
    left = texture[:, :W].copy()
    right = texture[:, far : far + W].copy()
    right[30:80, 100 - near : 180 - near] = left[30:80, 100:180]
    return left, right, shift


def test_match_finds_the_shift() -> None:
    left, right, shift = pair()
    pixels = match(left, right)
    assert pixels.shape == (H, W) and pixels.dtype == np.float32
    matched = pixels > 0
    assert matched.mean() > 0.8
    assert (np.abs(pixels - shift)[matched] < 0.75).mean() > 0.97
    assert search_range(W) == 32


def stereo_frame(folder: Path, right: np.ndarray | None) -> Frame:
    left, true_right, _ = pair()
    path = folder / "right.png"
    if right is None:
        right = true_right
    assert cv2.imwrite(str(path), right[..., ::-1])
    intrinsics = np.array([200, 200, W / 2, H / 2], np.float32)
    ref = FrameRef("s", 0, right_path=str(path))
    return Frame(ref, b"", left, intrinsics, "kitti-raw:x")


def test_a_frame_and_its_right_image(tmp_path: Path) -> None:
    stereo = stereo_frame(tmp_path, None)
    (disparity,) = open_depth("stereo:")([stereo])
    box, wall = np.median(disparity[40:70, 120:170]), np.median(disparity[5:20])
    assert box / wall == pytest.approx(4.0, rel=0.05)
    assert 0 < disparity.max() <= 1
    (small,) = open_depth("stereo:")([fit(stereo, (48, 128))])
    assert small.shape == (48, 128)
    assert np.median(small[20:35, 60:85]) == pytest.approx(box, rel=0.3)


def test_no_right_image_and_no_pair(tmp_path: Path) -> None:
    stereo = stereo_frame(tmp_path, None)
    alone = Frame(FrameRef("s", 0), b"", stereo.image, stereo.intrinsics, "cityscapes:x")
    with pytest.raises(FrameError, match="no right image"):
        open_depth("stereo:")([alone])
    noise = np.random.default_rng(1).integers(0, 255, (H, W, 3)).astype(np.uint8)
    with pytest.raises(FrameError, match="match the left"):
        open_depth("stereo:")([stereo_frame(tmp_path, noise)])
    (tmp_path / "right.png").write_bytes(b"torn")
    with pytest.raises(FrameError, match=r"right\.png") as caught:
        open_depth("stereo:")([stereo])
    assert caught.value.stage == "depth"
    (tmp_path / "right.png").unlink()
    with pytest.raises(FrameError, match=r"right\.png"):
        open_depth("stereo:")([stereo])
