"""A learned camera: read from a network, scaled to any frame, applied to uncalibrated ones."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cpcdr.depth.camera import LearnedCamera, where_assumed
from cpcdr.depth.model import DepthModel
from cpcdr.depth.network import Network, learned_camera
from cpcdr.frames import FrameOptions, fit, open_frames
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.errors import FrameError
from cpcdr.train.depth_task import TINY

LEARNS = replace(TINY, channels=8, height=64, width=128, intrinsics="learn")
CAMERA = LearnedCamera((100.0, 100.0, 70.0, 30.0), (64, 128))


def checkpoint(folder: Path, focal: float = 0.9) -> Path:
    """An untrained network with a learned camera."""
    model = DepthModel(LEARNS)
    with torch.no_grad():
        model.intrinsics.log_focal.fill_(float(np.log(focal)))
        model.intrinsics.principal_point.copy_(torch.tensor([0.05, -0.02]))
    values = {"kind": "depth", "config": {**asdict(LEARNS), "data": "x"}}
    return write_checkpoint(folder, 1, values, model.state_dict(), {})


def images(folder: Path, size: tuple[int, int] = (128, 256)) -> str:
    folder.mkdir(parents=True)
    assert cv2.imwrite(str(folder / "1.png"), np.full((*size, 3), 90, np.uint8))
    return f"images:{folder}"


def test_a_network_exposes_its_learned_camera(tmp_path: Path) -> None:
    camera = Network("network:x", checkpoint(tmp_path)).camera
    assert camera is not None and camera.size == (64, 128)
    np.testing.assert_allclose(camera.values, [115.2, 115.2, 63.5 + 6.4, 31.5 - 1.28], rtol=1e-5)
    assert learned_camera(DepthModel(replace(LEARNS, intrinsics="known"))) is None


def test_facts_refer_to_the_frame_size(tmp_path: Path) -> None:
    facts = CAMERA.facts((128, 256))
    assert facts == {"learned_intrinsics": "200.00,200.00,140.50,60.50", "learned_fov": 65.2}
    options = FrameOptions(intrinsics=str(facts["learned_intrinsics"]))
    source = open_frames(images(tmp_path / "a"), options)
    fitted = fit(source.read(source.refs()[0]), CAMERA.size)
    np.testing.assert_allclose(fitted.intrinsics, CAMERA.values, atol=0.01)


def test_only_assumed_cameras_are_replaced(tmp_path: Path) -> None:
    one, two = images(tmp_path / "a"), images(tmp_path / "b", (100, 300))
    assumed = where_assumed(open_frames(one), CAMERA, "network:x")
    assert assumed.intrinsics_note == (
        "learned by network:x: 100.00,100.00,70.00,30.00 at 128×64 pixels"
    )
    frame = assumed.read(assumed.refs()[0])
    np.testing.assert_allclose(frame.intrinsics, [200, 200, 140.5, 60.5])
    given = open_frames(one, FrameOptions(intrinsics="150,150,127,63"))
    assert where_assumed(given, CAMERA, "network:x") is given
    joined = open_frames(f"{one},{two}", FrameOptions(intrinsics="150,150,127,63;"))
    mixed = where_assumed(joined, CAMERA, "network:x")
    assert [mixed.read(ref).intrinsics[0] for ref in mixed.refs()] == [
        150,
        pytest.approx(156.25),
    ]
    assert mixed.intrinsics_note.count("learned by") == mixed.intrinsics_note.count("given") == 1


def test_an_implausible_camera_is_refused(tmp_path: Path) -> None:
    implausible = replace(CAMERA, values=(2000.0, 2000.0, 70.0, 30.0))
    source = where_assumed(open_frames(images(tmp_path / "a")), implausible, "network:x")
    with pytest.raises(FrameError, match=r"1\.png.*3\.67 degrees.*--options\.intrinsics"):
        source.read(source.refs()[0])
