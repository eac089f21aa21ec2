"""Camera intrinsics: given, read from calibration files, or assumed from a field of view.

Everywhere: float32 [4] = fx, fy, cx, cy in pixels of the stored image, x right, y down, the centre
of the top left pixel at (0, 0).
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import FIELDS_OF_VIEW, FrameOptions
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.strict_json import parse_object

Intrinsics = NDArray[np.float32]

CITYSCAPES_WIDTH = 2048
"""Width in pixels of the images that Cityscapes' camera files refer to."""
ASSUMED = "assumed: "
"""Beginning of a note on intrinsics that are not known."""
_GIVE = "give --options.intrinsics fx,fy,cx,cy in pixels of the stored image."


def parse_intrinsics(text: str) -> Intrinsics:
    """Intrinsics from ``fx,fy,cx,cy``.

    Raises:
        InputError: not four finite numbers, or a focal length that is not positive.

    >>> parse_intrinsics("707.5, 707.5, 601.5, 183").tolist()
    [707.5, 707.5, 601.5, 183.0]
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4 or not all(map(math.isfinite, values)) or min(values[:2]) <= 0:
        raise InputError(
            f"--options.intrinsics {text!r} is not a camera: give fx,fy,cx,cy in pixels, "
            "such as 707.09,707.09,601.89,183.11."
        )
    return np.array(values, np.float32)


def intrinsics_text(intrinsics: NDArray[np.floating]) -> str:
    """``fx,fy,cx,cy`` as `parse_intrinsics` reads them.

    >>> intrinsics_text(np.array([707.5, 707.5, 601.25, 183]))
    '707.50,707.50,601.25,183.00'
    """
    return ",".join(f"{float(value):.2f}" for value in intrinsics)


def intrinsics_from_fov(fov: float, size: tuple[int, int], aspect: float = 1.0) -> Intrinsics:
    """A centred principal point.

    Args:
        aspect: width of a pixel in units of its height.

    >>> intrinsics_from_fov(90, (100, 200)).round(3).tolist()
    [100.0, 100.0, 99.5, 49.5]
    """
    height, width = size
    focal = width / 2 / math.tan(math.radians(fov) / 2)
    return np.array([focal, focal * aspect, (width - 1) / 2, (height - 1) / 2], np.float32)


def field_of_view(focal: float, side: float) -> float:
    """Degrees that a focal length sees over a side of the image, both in the same unit.

    >>> round(field_of_view(100, 200), 3)
    90.0
    """
    return math.degrees(2 * math.atan(side / 2 / focal))


def given_or_assumed(
    options: FrameOptions, size: tuple[int, int], aspect: float = 1.0
) -> Intrinsics:
    """The intrinsics that the options give, else those of their field of view, for size (H, W)."""
    if options.intrinsics:
        return parse_intrinsics(options.intrinsics)
    return intrinsics_from_fov(options.fov, size, aspect)


def note(options: FrameOptions, calibration: str = "") -> str:
    """Where intrinsics come from, in words: ``calibration`` names the files where there are any."""
    if options.intrinsics:
        return f"given: {options.intrinsics}"
    return calibration or f"{ASSUMED}{options.fov:g} degrees horizontal field of view"


def cityscapes_intrinsics(path: Path, width: int) -> Intrinsics:
    """Intrinsics of a Cityscapes ``*_camera.json``, scaled to a stored image ``width`` pixels wide.

    Raises:
        FrameError: the file cannot be read as camera JSON, or its numbers are no camera.
    """
    try:
        camera = parse_object(path.read_bytes())["intrinsic"]
        values = [float(camera[key]) for key in ("fx", "fy", "u0", "v0")]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise FrameError(
            f"{path} is not a Cityscapes camera file (intrinsic.fx, fy, u0, v0): replace it, or "
            f"{_GIVE}"
        ) from error
    fx, fy, cx, cy = values
    if not all(map(math.isfinite, values)) or min(fx, fy) <= 0:
        raise FrameError(
            f"{path}: fx={fx:g}, fy={fy:g}, u0={cx:g}, v0={cy:g} is no camera, whose focal lengths "
            f"are positive: replace the file, or {_GIVE}"
        )
    scale = width / CITYSCAPES_WIDTH
    return np.array(
        [fx * scale, fy * scale, (cx + 0.5) * scale - 0.5, (cy + 0.5) * scale - 0.5], np.float32
    )


def kitti_projection(path: Path, key: str) -> NDArray[np.float64]:
    """The 3×4 projection matrix [pixels] such as ``P_rect_02`` or ``P2``; see `kitti_matrix`.

    Raises:
        InputError: besides, the matrix projects nothing.
    """
    projection = kitti_matrix(path, key, (3, 4))
    fx, fy = projection[0, 0], projection[1, 1]
    if min(fx, fy) <= 0 or np.linalg.matrix_rank(projection[:, :3]) < 3:
        raise InputError(
            f"{path}: {key} with fx={fx:g}, fy={fy:g} is no camera's projection, whose focal "
            f"lengths are positive: replace the file, or {_GIVE}"
        )
    return projection


def kitti_matrix(path: Path, key: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A matrix of a KITTI calibration file.

    Args:
        path: ``calib_cam_to_cam.txt`` (raw), ``calib.txt`` (odometry) or the like.

    Raises:
        InputError: the file is missing, or has no such matrix of finite numbers.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The calibration file {path} is missing or unreadable: put it there, or {_GIVE}"
        ) from error
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() == key:
            try:
                matrix = np.array(numbers.split(), np.float64).reshape(shape)
            except ValueError:
                break
            if np.isfinite(matrix).all():
                return matrix
    raise InputError(
        f"{path} has no line {key} of {shape[0] * shape[1]} finite numbers: replace it, or {_GIVE}"
    )


def intrinsics_of_projection(projection: NDArray[np.float64]) -> Intrinsics:
    """fx, fy, cx, cy of a rectified 3×4 projection matrix."""
    return projection[[0, 1, 0, 1], [0, 1, 2, 2]].astype(np.float32)


def check_inside(intrinsics: Intrinsics, size: tuple[int, int], path: str) -> None:
    """Refuse a camera that cannot belong to an image of ``size`` (H, W).

    Raises:
        FrameError: the principal point is outside the image: it was resized after calibration; or
            the field of view is that of no pinhole camera.
    """
    height, width = size
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    if not (0 < cx < width and 0 < cy < height):
        raise FrameError(
            f"{path} is {width}×{height}, but its principal point is ({cx:g}, {cy:g}): {_GIVE}"
        )
    low, high = FIELDS_OF_VIEW
    for name, focal, side in (("horizontal", fx, width), ("vertical", fy, height)):
        degrees = field_of_view(focal, side)
        if not low <= degrees <= high:
            raise FrameError(
                f"{path} is {width}×{height}, and a focal length of {focal:g} pixels would give it "
                f"a {name} field of view of {degrees:.3g} degrees, not one in {low:g}..{high:g}: "
                f"{_GIVE}"
            )
