"""Laser scans into a camera: through KITTI's three calibration steps, nearest return first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cpcdr.depth.sources import open_depth
from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.runtime.errors import FrameError

F, BASELINE = 100.0, 0.6


def recording(root: Path, points: np.ndarray) -> Frame:
    """x forward, y left, z up in the scanner; the camera looks forward, 0.6 m to the left of 0."""
    date = root / "2011_09_26"
    drive = date / "2011_09_26_drive_0001_sync"
    scans = drive / "velodyne_points" / "data"
    scans.mkdir(parents=True)
    np.concatenate([points, np.ones((len(points), 1))], axis=1).astype(np.float32).tofile(
        scans / "0000000000.bin"
    )
    rotation = "0 -1 0 0 0 -1 1 0 0"
    (date / "calib_velo_to_cam.txt").write_text(f"calib_time: x\nR: {rotation}\nT: 0 -0.1 0\n")
    projection = f"{F} 0 64 {F * BASELINE} 0 {F} 32 0 0 0 1 0"
    (date / "calib_cam_to_cam.txt").write_text(
        f"R_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: {projection}\n"
    )
    image = drive / "image_02" / "data" / "0000000000.png"
    intrinsics = np.array([F, F, 64, 32], np.float32)
    ref = FrameRef("2011_09_26/drive", 0, str(image))
    return Frame(ref, b"", np.zeros((64, 128, 3), np.uint8), intrinsics, "kitti-raw:x")


def test_points_land_where_the_camera_sees_them(tmp_path: Path) -> None:
    points = np.array([[10.0, 0, -0.1], [5.0, 0, -0.1], [20.0, 2, 1], [-5.0, 0, 0]])
    (disparity,) = open_depth("velodyne:")([recording(tmp_path, points)])
    assert (disparity > 0).sum() == 3
    # (0, 0 + 0.1 - 0.1 -> y = 0.1 - 0.1, z) shifted by the rig's 0.6 m
    assert disparity[32, round(64 + F * BASELINE / 10)] == pytest.approx(0.1)
    assert disparity[32, round(64 + F * BASELINE / 5)] == pytest.approx(0.2)
    u, v = 64 + F * (-2 + BASELINE) / 20, 32 + F * (-1 - 0.1) / 20
    assert disparity[round(v), round(u)] == pytest.approx(0.05)


def test_missing_and_broken_scans(tmp_path: Path) -> None:
    frame = recording(tmp_path, np.ones((4, 3)))
    scan = next(tmp_path.rglob("*.bin"))
    scan.write_bytes(b"\0" * 15)
    with pytest.raises(FrameError, match="not a KITTI scan"):
        open_depth("velodyne:")([frame])
    scan.unlink()
    with pytest.raises(FrameError, match="is missing"):
        open_depth("velodyne:")([frame])


def test_a_degenerate_calibration_is_refused(tmp_path: Path) -> None:
    frame = recording(tmp_path, np.ones((4, 3)))
    calibration = next(tmp_path.rglob("calib_cam_to_cam.txt"))
    calibration.write_text(calibration.read_text().replace(f"{F} 0 64", "0 0 64"))
    with pytest.raises(FrameError, match=r"calib_cam_to_cam.*no camera's projection") as caught:
        open_depth("velodyne:")([frame])
    assert caught.value.stage == "depth"
