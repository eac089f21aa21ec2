"""The synthetic street: reproducible frames, and consistent geometry."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from cpcdr.frames.decode import decode_image
from cpcdr.frames.frame import Frame, FrameOptions, FrameRef
from cpcdr.frames.synthetic import SyntheticStreet
from cpcdr.geometry import reproject, sample_pixels
from cpcdr.runtime.errors import FrameError, InputError

CLASSES = 14
SKY, MOVING = 10, (11, 12, 13)
SMALL = "streets=2,frames=3,height=64,width=128,seed=5"


@lru_cache
def frame(argument: str, street: int, index: int) -> Frame:
    """One frame of a source with its 14 classes, rendered once for all tests."""
    source = replace(SyntheticStreet.parse(argument, FrameOptions()), protocol="synthetic-14")
    return source.read(FrameRef(f"street-{source.seed:03d}-{street:03d}", index))


DIGEST = """
import hashlib

def digest(frames):
    total = hashlib.sha256()
    for f in frames:
        total.update(f.encoded)
        for array in (f.image, f.labels, f.disparity, f.pose, f.intrinsics):
            total.update(array.tobytes())
    return total.hexdigest()
"""


@pytest.mark.slow
def test_random_access_equals_sequential_reading_in_another_process() -> None:
    source = SyntheticStreet.parse(SMALL, FrameOptions())
    backwards = [source.read(ref) for ref in reversed(source.refs())]
    code = DIGEST + (
        "import pickle, sys\n"
        "source = pickle.loads(sys.stdin.buffer.read())\n"
        "print(digest([source.read(ref) for ref in source.refs()]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(source),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    here: dict[str, Any] = {}
    exec(DIGEST, here)  # the same code in both processes
    assert answer.stdout.decode().strip() == here["digest"](backwards[::-1])


def test_a_frame_keeps_the_contract() -> None:
    f = frame(SMALL, 1, 2)
    assert f.ref.frame_id == "street-005-001/00000002"
    assert f.image.shape == (64, 128, 3) and f.image.dtype == np.uint8
    assert np.array_equal(f.image, decode_image(f.encoded, "frame"))
    assert f.labels is not None and f.labels.dtype == np.uint8 and f.labels.max() < CLASSES
    assert f.disparity is not None and f.disparity.dtype == np.float32
    assert f.disparity.min() >= np.float32(0.005) and f.disparity.max() <= 1.0
    assert f.pose is not None and f.pose.shape == (4, 4)
    assert np.allclose(f.pose[:3, :3] @ f.pose[:3, :3].T, np.eye(3))
    assert f.intrinsics.dtype == np.float32 and f.intrinsics[2] == 63.5
    assert f.source == f"synthetic:{SMALL}"


@pytest.mark.slow
def test_every_class_is_common_and_the_sky_is_far() -> None:
    source = replace(SyntheticStreet.parse("", FrameOptions(stride=8)), protocol="synthetic-14")
    counts = np.zeros(CLASSES)
    for ref in source.refs():
        f = source.read(ref)
        assert f.labels is not None and f.disparity is not None
        counts += np.bincount(f.labels.ravel(), minlength=CLASSES)
        assert np.all(f.disparity[f.labels == SKY] == np.float32(0.005))
    shares = counts / counts.sum()
    assert len(shares) == CLASSES
    assert shares.min() > 0.003, shares
    assert shares.max() < 0.45, shares


@pytest.mark.parametrize("street", [0, 2, 3, 6])
def test_depth_pose_and_intrinsics_explain_the_next_frame(street: int) -> None:
    now, after = frame("", street, 4), frame("", street, 5)
    assert now.labels is not None and now.disparity is not None and after.disparity is not None
    assert now.pose is not None and after.pose is not None
    pose = torch.from_numpy(np.linalg.inv(after.pose) @ now.pose).float()
    disparity = torch.from_numpy(now.disparity)
    pixels, seen = reproject(disparity, pose, torch.from_numpy(now.intrinsics))

    def sampled(values: np.ndarray) -> np.ndarray:
        planes = torch.from_numpy(np.atleast_3d(values).astype(np.float32)).permute(2, 0, 1)
        return sample_pixels(planes[None], pixels[None])[0].permute(1, 2, 0).numpy()

    # The point's disparity in the next camera, and the disparity rendered there.
    rays = torch.linalg.inv(_matrix(now.intrinsics)) @ _grid(now.disparity.shape)
    points = pose[:3, :3] @ (rays / disparity.reshape(1, -1)) + pose[:3, 3:]
    expected = (1.0 / points[2]).reshape(disparity.shape).numpy()
    agree = np.abs(sampled(after.disparity)[..., 0] / expected - 1.0) < 0.03
    still = seen.numpy() & ~np.isin(now.labels, MOVING) & (now.labels != SKY)
    assert agree[still].mean() > 0.8
    static = still & agree
    warped = np.abs(sampled(after.image) - now.image)[static].mean()
    identity = np.abs(after.image.astype(float) - now.image)[static].mean()
    assert warped < 6.0 and warped < 0.6 * identity, (warped, identity)


def _matrix(intrinsics: np.ndarray) -> torch.Tensor:
    fx, fy, cx, cy = (float(v) for v in intrinsics)
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _grid(shape: tuple[int, ...]) -> torch.Tensor:
    v, u = np.mgrid[: shape[0], : shape[1]]
    return torch.from_numpy(np.stack([u, v, np.ones_like(u)]).reshape(3, -1)).float()


def test_the_camera_drives_less_than_a_metre_a_frame() -> None:
    for street in range(4):
        first, second = frame("", street, 4).pose, frame("", street, 5).pose
        assert first is not None and second is not None
        assert 0.35 < np.linalg.norm(second[:3, 3] - first[:3, 3]) < 1.0


def test_streets_differ_and_seeds_differ() -> None:
    images = [frame(SMALL, 0, 0), frame(SMALL, 1, 0), frame(SMALL.replace("5", "6"), 0, 0)]
    assert len({f.encoded for f in images}) == 3


def test_size_changes_only_the_resolution() -> None:
    small = frame(SMALL, 0, 0)
    large = frame("streets=2,frames=3,height=128,width=256,seed=5", 0, 0)
    assert small.labels is not None and large.labels is not None
    agree = small.labels == large.labels[::2, ::2]
    assert large.image.shape == (128, 256, 3) and agree.mean() > 0.9


def test_options_choose_frames_and_the_camera() -> None:
    source = SyntheticStreet.parse("streets=3,frames=6", FrameOptions(stride=2, limit=3, fov=90.0))
    assert [ref.frame_id for ref in source.refs()] == [
        f"street-000-{k:03d}/00000000" for k in range(3)
    ]
    assert source.protocol == "synthetic" and source.intrinsics_note == "given by the renderer"
    assert source.read(source.refs()[0]).intrinsics[0] == pytest.approx(128.0)


@pytest.mark.parametrize("argument", ["roads=3", "streets", "streets=x", "streets=-1", "seed=1.5"])
def test_a_bad_setting_names_the_valid_keys(argument: str) -> None:
    with pytest.raises(InputError, match="streets, frames, height, width, seed"):
        SyntheticStreet.parse(argument, FrameOptions())


@pytest.mark.parametrize("argument", ["streets=0", "frames=0", "height=2", "width=8"])
def test_a_setting_that_is_too_small_is_refused(argument: str) -> None:
    with pytest.raises(InputError, match="too small"):
        SyntheticStreet.parse(argument, FrameOptions())


@pytest.mark.parametrize("ref", [FrameRef("street-000-099", 0), FrameRef("street-000-000", 16),
                                 FrameRef("other", 0), FrameRef("street-001-000", 0)])  # fmt: skip
def test_a_missing_frame_is_refused(ref: FrameRef) -> None:
    with pytest.raises(FrameError, match="has no frame"):
        SyntheticStreet.parse("", FrameOptions()).read(ref)
