"""Digests of source files: changed content is another digest, whatever the names say."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from cpcdr.frames import open_frames
from cpcdr.frames.digest import files_digest, frames_digest


def images(folder: Path, count: int = 4) -> str:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        assert cv2.imwrite(str(folder / f"{i:03d}.png"), np.full((32, 48, 3), i, np.uint8))
    return f"images:{folder}"


def test_any_changed_or_missing_file_is_another_digest(tmp_path: Path) -> None:
    spec = images(tmp_path / "a")
    first = frames_digest(open_frames(spec))
    assert first == frames_digest(open_frames(spec)) and len(first) == 16
    path = tmp_path / "a" / "002.png"
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])  # the same size
    changed = frames_digest(open_frames(spec))
    assert changed != first
    path.write_bytes(data)
    assert frames_digest(open_frames(spec)) == first
    path.unlink()
    assert frames_digest(open_frames(spec)) not in (first, changed)


def test_a_copy_is_the_same_data_whenever_it_was_made(tmp_path: Path) -> None:
    spec = images(tmp_path / "a")
    first = frames_digest(open_frames(spec))
    for path in (tmp_path / "a").iterdir():
        os.utime(path, (0, 0))
    assert frames_digest(open_frames(spec)) == first


def test_pictures_are_read_in_blocks_and_other_files_as_a_whole(tmp_path: Path) -> None:
    data = bytes(100_000)
    for name, places in (
        ("a.jpg", (0, 99_999, 50_000, 26_000)),
        ("poses.txt", range(0, 10**5, 9973)),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        seen = {files_digest([path])}
        for place in places:
            path.write_bytes(data[:place] + b"1" + data[place + 1 :])
            seen.add(files_digest([path]))
        assert len(seen) == 1 + len(places)


def test_rendered_frames_have_no_files() -> None:
    assert frames_digest(open_frames("synthetic:streets=1,frames=2,height=32,width=64")) == ""


def test_calibration_and_poses_count(tmp_path: Path) -> None:
    images(tmp_path / "image_0")
    sequence = tmp_path / "tree" / "sequences" / "00"
    sequence.mkdir(parents=True)
    (tmp_path / "image_0").rename(sequence / "image_0")
    calibration, poses = sequence / "calib.txt", tmp_path / "tree" / "poses" / "00.txt"
    poses.parent.mkdir()
    calibration.write_text("P0: 72 0 24 0 0 73 16 0 0 0 1 0\n")
    poses.write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    spec = f"kitti-odometry:{tmp_path / 'tree'}"
    seen = {frames_digest(open_frames(spec))}
    calibration.write_text("P0: 70 0 24 0 0 73 16 0 0 0 1 0\n")
    seen.add(frames_digest(open_frames(spec)))
    poses.write_text("1 0 0 5 0 1 0 0 0 0 1 0\n")
    seen.add(frames_digest(open_frames(spec)))
    assert len(seen) == 3
    joined = [frames_digest(open_frames(f"{spec},{images(tmp_path / 'b')}"))]
    calibration.write_text("P0: 71 0 24 0 0 73 16 0 0 0 1 0\n")
    assert frames_digest(open_frames(f"{spec},images:{tmp_path / 'b'}")) not in joined


def test_files_in_any_order_and_names_count(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    paths = sorted(tmp_path.iterdir())
    assert files_digest(paths) == files_digest(reversed(paths)) != files_digest(paths[:1])
    before = files_digest(paths)
    (tmp_path / "a").rename(tmp_path / "c")
    assert files_digest(sorted(tmp_path.iterdir())) != before
