"""KITTI's three layouts: ``kitti-raw:``, ``kitti-odometry:`` and ``kitti-semantics:``.

Colour images (camera 2, right partner 3) are taken where they are, else the grey ones (0 and 1).
Raw and odometry recordings ship with calibration, which must be there or be given; the semantic
benchmark ships without, so a field of view may be assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.frames.intrinsics import (
    Intrinsics,
    given_or_assumed,
    intrinsics_of_projection,
    kitti_projection,
    note,
    parse_intrinsics,
)
from cpcdr.frames.stored import (
    StoredFrames,
    frame_number,
    if_file,
    list_files,
    list_folders,
    read_stored,
    select,
)
from cpcdr.runtime.errors import FrameError, InputError

_CAMERAS = ((2, 3), (0, 1))
"""(left, right) camera numbers, the preferred pair first."""


class KittiRaw(StoredFrames):
    """``DATE/DATE_drive_NNNN_sync/image_02/data`` with ``DATE/calib_cam_to_cam.txt``.

    Sequences are ``DATE/DRIVE``; indices are the numbers of the files.
    """

    kind = "kitti-raw"

    @property
    def intrinsics_note(self) -> str:
        return note(self.options, "P_rect of KITTI's calib_cam_to_cam.txt")

    def camera_files(self) -> list[Path]:
        return sorted(self.root.glob("*/calib_cam_to_cam.txt"))

    def refs(self) -> Sequence[FrameRef]:
        refs = []
        for date in list_folders(self.root):
            for drive in list_folders(date):
                left, right = _image_folders(drive, "image_{:02d}/data")
                frames = _numbered(f"{date.name}/{drive.name}", left, right)
                if frames:
                    self._camera(Path(frames[0].path))  # now, not frame by frame
                refs += frames
        if not refs:
            raise InputError(
                f"{self.spec} holds no DATE/DRIVE/image_02/data/*.png: give the folder that "
                "contains the dates, such as 2011_09_26."
            )
        return select(refs, self.options)

    def read(self, ref: FrameRef) -> Frame:
        return read_stored(ref, self.spec, lambda size: self._camera(Path(ref.path)))

    def _camera(self, file: Path) -> Intrinsics:
        if self.options.intrinsics:
            return parse_intrinsics(self.options.intrinsics)
        image_folder = file.parent.parent  # DATE/DRIVE/image_02
        calibration = image_folder.parent.parent / "calib_cam_to_cam.txt"
        key = f"P_rect_{image_folder.name[-2:]}"
        return intrinsics_of_projection(kitti_projection(calibration, key))


class KittiOdometry(StoredFrames):
    """``sequences/XX/image_2`` (or grey ``image_0``), ``calib.txt`` and ``poses/XX.txt``.

    Poses are those of the camera that took the image, in the world of the first frame's camera 0.
    """

    kind = "kitti-odometry"
    holds = ("sequences",)
    remedy = "give the folder that contains sequences/ and poses/"

    @property
    def intrinsics_note(self) -> str:
        return note(self.options, "P of KITTI odometry's calib.txt")

    def camera_files(self) -> list[Path]:
        return sorted([*self.root.glob("sequences/*/calib.txt"), *self.root.glob("poses/*.txt")])

    def refs(self) -> Sequence[FrameRef]:
        refs = []
        for sequence in list_folders(self.root / "sequences"):
            frames = _numbered(sequence.name, *_image_folders(sequence, "image_{}"))
            if frames and not self.options.intrinsics:
                self._projection(Path(frames[0].path))  # a missing file is reported now
            refs += frames
        if not refs:
            raise InputError(
                f"{self.root / 'sequences'} holds no XX/image_2/*.png: unpack KITTI odometry there."
            )
        return select(refs, self.options)

    def read(self, ref: FrameRef) -> Frame:
        file = Path(ref.path)

        def camera(size: tuple[int, int]) -> Intrinsics:
            if self.options.intrinsics:
                return parse_intrinsics(self.options.intrinsics)
            return intrinsics_of_projection(self._projection(file))

        return replace(read_stored(ref, self.spec, camera), pose=self._pose(ref))

    def _projection(self, file: Path) -> NDArray[np.float64]:
        image_folder = file.parent  # sequences/XX/image_2
        key = f"P{image_folder.name[-1]}"
        return kitti_projection(image_folder.parent / "calib.txt", key)

    def _pose(self, ref: FrameRef) -> NDArray[np.float64] | None:
        """The camera's pose: the file's pose of camera 0, moved along the stereo rig."""
        poses = _poses(self.root / "poses" / f"{ref.sequence}.txt")
        if poses is None or ref.frame_index >= len(poses):
            return None
        pose = poses[ref.frame_index].copy()
        try:
            projection = self._projection(Path(ref.path))
        except InputError:  # intrinsics were given and there is no calibration
            return pose
        # P = K [I | t], so the camera's centre in camera 0 is -t.
        centre = -np.linalg.solve(projection[:, :3], projection[:, 3])
        pose[:3, 3] += pose[:3, :3] @ centre
        return pose


@dataclass(frozen=True)
class KittiSemantics(StoredFrames):
    """The semantic benchmark: ``training/image_2`` with ``training/semantic`` in Cityscapes ids.

    Each image ``000003_10.png`` is frame 10 of its own sequence ``training/000003``. Intrinsics
    come from ``training/calib_cam_to_cam/000003.txt`` (part of the stereo 2015 download) if there.
    """

    kind = "kitti-semantics"
    holds = ("training/image_2",)
    remedy = "give the folder that contains training/"
    protocol: str = "kitti-19"

    @property
    def intrinsics_note(self) -> str:
        if (self.root / "training" / "calib_cam_to_cam").is_dir():
            return note(self.options, "P_rect_02 of KITTI's calib_cam_to_cam/*.txt")
        return note(self.options)

    def refs(self) -> Sequence[FrameRef]:
        training = self.root / "training"
        refs = []
        for position, file in enumerate(list_files(training / "image_2")):
            scene = file.stem.rpartition("_")[0] or file.stem
            number = frame_number(file.stem, position)
            label = if_file(training / "semantic" / f"{file.stem}.png")
            right = if_file(training / "image_3" / file.name)
            refs.append(FrameRef(f"training/{scene}", number, str(file), label, right))
        if not refs:
            raise InputError(f"{training / 'image_2'} holds no image: unpack KITTI there.")
        return select(refs, self.options)

    def read(self, ref: FrameRef) -> Frame:
        scene = ref.sequence.rpartition("/")[2]
        calibration = self.root / "training" / "calib_cam_to_cam" / f"{scene}.txt"

        def camera(size: tuple[int, int]) -> Intrinsics:
            if self.options.intrinsics or not calibration.is_file():
                return given_or_assumed(self.options, size)
            return intrinsics_of_projection(kitti_projection(calibration, "P_rect_02"))

        return read_stored(ref, self.spec, camera, self.protocol, f"{scene}_")


def _image_folders(drive: Path, pattern: str) -> tuple[Path, Path]:
    """The (left, right) image folders of a drive: colour where there is any, else grey."""
    for left, right in _CAMERAS:
        folder = drive / pattern.format(left)
        if list_files(folder):
            return folder, drive / pattern.format(right)
    return drive / pattern.format(2), drive / pattern.format(3)


def _numbered(sequence: str, left: Path, right: Path) -> list[FrameRef]:
    """One frame for each image of ``left``, indexed by the number that is its name."""
    partners = {file.name for file in list_files(right)}
    return [
        FrameRef(
            sequence,
            frame_number(file.stem, position),
            str(file),
            right_path=str(right / file.name) if file.name in partners else "",
        )
        for position, file in enumerate(list_files(left))
    ]


@lru_cache(maxsize=64)
def _poses(path: Path) -> NDArray[np.float64] | None:
    """float64 [frames, 4, 4] of a pose file (12 numbers a row), None where there is none.

    Raises:
        FrameError: the file is not a pose file.
    """
    if not path.is_file():
        return None
    try:
        rows = np.loadtxt(path, dtype=np.float64, ndmin=2).reshape(-1, 3, 4)
    except (OSError, ValueError) as error:
        raise FrameError(
            f"{path} is not a pose file (12 numbers a row): replace or remove it."
        ) from error
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows
    return poses
