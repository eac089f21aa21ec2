"""Sparse disparity from the laser scans of KITTI raw recordings, to evaluate depth networks."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.source import DepthError, Disparity, check_disparity
from cpcdr.frames.frame import Frame
from cpcdr.frames.intrinsics import kitti_matrix, kitti_projection
from cpcdr.geometry import MIN_DISPARITY
from cpcdr.runtime.errors import InputError


class Velodyne:
    """Projects ``DRIVE/velodyne_points/data/*.bin`` into the frame's camera.

    Calibration comes from ``calib_velo_to_cam.txt`` and ``calib_cam_to_cam.txt`` of the date.
    """

    name = "velodyne:"

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        """One map per frame: 1 / z at laser returns, 0 elsewhere."""
        return [self._disparity(frame) for frame in frames]

    def _disparity(self, frame: Frame) -> Disparity:
        image = Path(frame.ref.path)  # DATE/DRIVE/image_02/data/0000000000.png
        drive = image.parent.parent.parent
        scan = drive / "velodyne_points" / "data" / f"{image.stem}.bin"
        if not frame.ref.path or not scan.is_file():
            raise DepthError(
                f"{frame.ref.frame_id}: {scan} is missing: velodyne: needs KITTI raw recordings "
                "with velodyne_points."
            )
        points = np.fromfile(scan, np.float32)
        if points.size == 0 or points.size % 4:
            raise DepthError(f"{scan} is not a KITTI scan (x, y, z, reflectance): replace it.")
        try:
            to_camera = _scanner_to_camera(drive.parent, image.parent.parent.name[-2:])
        except InputError as error:
            raise DepthError(str(error)) from error
        visible = points.reshape(-1, 4)[:, :3] @ to_camera[:3, :3].T + to_camera[:3, 3]
        return check_disparity(splat(visible, frame.intrinsics, frame.image.shape[:2]), str(scan))


def splat(
    points: NDArray[np.floating], intrinsics: NDArray[np.floating], size: tuple[int, ...]
) -> NDArray[np.float32]:
    """Points [P, 3] in camera coordinates to 1 / z, float32 [H, W]; the nearest wins.

    >>> splat(np.array([[0, 0, 4.0], [0, 0, 2.0]]), np.array([1, 1, 0, 0]), (1, 2)).tolist()
    [[0.5, 0.0]]
    """
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    points = points[points[:, 2] > 1]
    z = points[:, 2]
    u = np.round(fx * points[:, 0] / z + cx).astype(np.int64)
    v = np.round(fy * points[:, 1] / z + cy).astype(np.int64)
    inside = (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    disparity = np.zeros(size, np.float32)
    nearest = np.maximum(1 / z[inside], MIN_DISPARITY).astype(np.float32)
    np.maximum.at(disparity, (v[inside], u[inside]), nearest)
    return disparity


@lru_cache(maxsize=16)
def _scanner_to_camera(date: Path, camera: str) -> NDArray[np.float64]:
    """Scanner to rectified camera coordinates: baseline shift · R0 · [R | t]."""
    scanner = date / "calib_velo_to_cam.txt"
    cameras = date / "calib_cam_to_cam.txt"
    to_camera, rectify = np.eye(4), np.eye(4)
    to_camera[:3, :3] = kitti_matrix(scanner, "R", (3, 3))
    to_camera[:3, 3] = kitti_matrix(scanner, "T", (3, 1))[:, 0]
    rectify[:3, :3] = kitti_matrix(cameras, "R_rect_00", (3, 3))
    projection = kitti_projection(cameras, f"P_rect_{camera}")
    along = np.eye(4)
    along[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
    return along @ rectify @ to_camera
