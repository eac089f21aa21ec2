"""Precomputed maps: the encodings of Cityscapes and KITTI, and cropped frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cpcdr.depth.precomputed import CITYSCAPES_BASELINE
from cpcdr.depth.sources import open_depth
from cpcdr.frames import fit
from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.runtime.errors import FrameError

H, W, FOCAL = 64, 128, 100.0
DEPTH = np.linspace(4, 60, H * W).reshape(H, W)


def write(path: Path, values: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def frame(path: Path, sequence: str) -> Frame:
    image = np.zeros((H, W, 3), np.uint8)
    write(path, image)
    intrinsics = np.array([FOCAL, FOCAL, 63.5, 31.5], np.float32)
    return Frame(FrameRef(sequence, 19, str(path)), b"", image, intrinsics, "test:")


def cityscapes_frame(root: Path) -> Frame:
    name = "aachen_000001_000019"
    pixels = CITYSCAPES_BASELINE * FOCAL / DEPTH
    stored = np.round(pixels * 256 + 1).astype(np.uint16)
    stored[:5] = 0
    write(root / f"disparity/train/aachen/{name}_disparity.png", stored)
    path = root / f"leftImg8bit/train/aachen/{name}_leftImg8bit.png"
    return frame(path, "train/aachen/000001")


def test_cityscapes_offset_rule(tmp_path: Path) -> None:
    source_frame = cityscapes_frame(tmp_path)
    for root in (tmp_path, tmp_path / "disparity"):
        (disparity,) = open_depth(f"precomputed:{root}")([source_frame])
        assert (disparity[:5] == 0).all(), "value 0 is invalid"
        np.testing.assert_allclose(1 / disparity[5:], DEPTH[5:], rtol=0.02)


def test_a_map_is_cropped_as_its_frame_was(tmp_path: Path) -> None:
    source_frame = cityscapes_frame(tmp_path)
    source = open_depth(f"precomputed:{tmp_path}")
    (whole,) = source([source_frame])
    small = fit(source_frame, (32, 32))  # a quarter of the area, and only its middle
    (disparity,) = source([small])
    assert disparity.shape == (32, 32)
    middle = whole[:, 32:96]
    assert abs(np.median(disparity[8:]) / np.median(middle[16:]) - 1) < 0.02, (
        "cropping keeps the scale"
    )


def test_kitti_depth_is_inverted_and_sparse(tmp_path: Path) -> None:
    source_frame = frame(tmp_path / "raw/2011/drive/image_02/data/0000000019.png", "2011/drive")
    stored = np.round(DEPTH * 256).astype(np.uint16)
    stored[::2] = 0
    write(tmp_path / "depth/val/drive/proj_depth/groundtruth/image_02/0000000019.png", stored)
    (disparity,) = open_depth(f"precomputed:{tmp_path / 'depth'}")([source_frame])
    assert (disparity[::2] == 0).all()
    np.testing.assert_allclose(1 / disparity[1::2], DEPTH[1::2], rtol=1e-3)


def test_another_view_is_refused(tmp_path: Path) -> None:
    source_frame = frame(tmp_path / "a.png", "s")
    write(tmp_path / "s/00000019.png", np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    with pytest.raises(FrameError, match="but its frame"):
        open_depth(f"precomputed:{tmp_path}")([replace(source_frame)])
