"""Measuring depth: exact depth has no error, the mean map has, and a network's motion is scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cpcdr.commands.evaluate_depth import _mean_map, evaluate_depth
from cpcdr.depth.config import TINY
from cpcdr.depth.metrics import eigen_crop
from cpcdr.depth.model import DepthModel
from cpcdr.depth.sources import open_depth
from cpcdr.evaluate.config import EvaluateDepthConfig
from cpcdr.frames import FrameOptions, open_frames
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig

STREET = "synthetic:seed=5,streets=1,frames=6,height=64,width=128"
QUIET = TrackingConfig("none")


def test_exact_depth_has_no_error_and_the_baseline_has(tmp_path: Path) -> None:
    config = EvaluateDepthConfig("ground-truth", STREET, out=tmp_path, tracking=QUIET)
    result = evaluate_depth(config)
    assert result["abs_rel"] < 1e-6 and result["d1"] == 1.0
    assert result["baseline_abs_rel"] > 0.02 and result["baseline_d1"] < 1.0
    assert result["measured_frames"] == 6 and result["rejected"] == 0
    assert result["ground_inliers"] > 0.6, "plausibility is measured beside the truth"
    assert json.loads((tmp_path / "report.json").read_text())["abs_rel"] == result["abs_rel"]
    assert (tmp_path / "depth.png").stat().st_size > 1000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a network that has learned nothing."""
    torch.manual_seed(0)
    settings = replace(TINY, channels=8, height=64, width=128, batch_size=2)
    weights = DepthModel(settings).state_dict()
    values = {"kind": "depth", "config": to_plain(settings), "metrics": {"photometric": 1.0}}
    return write_checkpoint(tmp_path_factory.mktemp("net"), 1, values, weights, {})


@pytest.mark.slow
def test_a_network_is_measured_in_every_way(tmp_path: Path, network: Path) -> None:
    config = EvaluateDepthConfig(f"network:{network}", STREET, out=tmp_path, tracking=QUIET)
    result = evaluate_depth(config)
    assert result["abs_rel"] > 0.05
    assert result["triplets"] > 0 and 0 < result["photometric"] < 1 and 0 < result["identity"] < 1
    assert result["snippets"] == 2 and result["trajectory_error"] >= 0
    assert 0 <= result["straight_error"] < 10
    for name in ("trajectory_error", "straight_error"):
        assert result[f"{name}_monodepth2"] == pytest.approx(result[name] / 5**0.5)
    assert (tmp_path / "trajectory.png").is_file() and (tmp_path / "photometry.png").is_file()


def test_any_depth_is_measured_without_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateDepthConfig("ground-truth", STREET, "", out=tmp_path, tracking=QUIET)
    result = evaluate_depth(config)
    assert "abs_rel" not in result and result["plausibility_frames"] == 6
    assert result["ground_inliers"] > 0.6 and result["ground_rises"] == 1
    assert result["sky"] < 0.3 and result["edges"] > 1.2 and result["temporal_error"] < 0.05
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["brightness"] == result["brightness"] < 0.5 and report["two_values"] < 0.6
    sheet = cv2.imread(str(tmp_path / "depth.png"))
    assert sheet is not None and sheet.shape[0] > 5 * 180 and sheet.shape[1] > 3 * 360
    assert "ground_inliers" in capsys.readouterr().out


def test_single_frames_with_files_of_depth_are_measured_without_truth(tmp_path: Path) -> None:
    config = evaluation(tmp_path, truth="")
    for name in ("001", "003", "005"):
        (tmp_path / f"images/{name}.jpg").unlink()
    (tmp_path / "true/images/00000001.png").unlink()  # of the second of three frames
    result = evaluate_depth(config)
    assert result["plausibility_frames"] == 2 and result["ground_rises"] == 1
    assert result["temporal_error"] is None, "no measured frame has a measured next one"
    with pytest.raises(InputError, match=r"no frame has depth by ground-truth.*no exact depth"):
        evaluate_depth(replace(config, depth="ground-truth"))


def test_eigen_crop_and_bad_input(tmp_path: Path) -> None:
    inside = eigen_crop((375, 1242))
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (153, 370, 44, 1196)
    config = EvaluateDepthConfig(
        "ground-truth", STREET, truth="velodyne:", out=tmp_path, tracking=QUIET
    )
    with pytest.raises(InputError, match=r"no frame has a true depth.*velodyne_points"):
        evaluate_depth(config)


def images(folder: Path, count: int = 6) -> str:
    """The street's frames as files; the source of them."""
    street = open_frames(STREET)
    folder.mkdir()
    for i, ref in enumerate(street.refs()[:count]):
        (folder / f"{i:03d}.jpg").write_bytes(street.read(ref).encoded)
    return f"images:{folder}"


def truth(folder: Path, count: int = 6, kind: type = np.uint16) -> str:
    """The street's exact disparity as files beside `images`; the source of it."""
    street = open_frames(STREET)
    for i, ref in enumerate(street.refs()[:count]):
        disparity = street.read(ref).disparity
        assert disparity is not None
        path = folder / "images" / f"{i:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), (disparity * np.iinfo(kind).max).astype(kind))
    return f"precomputed:{folder}"


def evaluation(tmp_path: Path, **changes: str) -> EvaluateDepthConfig:
    spec = images(tmp_path / "images")
    given = {"depth": truth(tmp_path / "true"), "truth": f"precomputed:{tmp_path / 'true'}"}
    return EvaluateDepthConfig(
        frames=spec, out=tmp_path / "out", tracking=QUIET, **(given | changes)
    )


def test_truth_that_cannot_be_read_is_said_with_its_file(tmp_path: Path) -> None:
    config = evaluation(tmp_path, truth=truth(tmp_path / "d8", kind=np.uint8))
    with pytest.raises(InputError, match=r"by --truth precomputed:.*00000000\.png is not a 16-bit"):
        evaluate_depth(config)
    with pytest.raises(InputError, match="--truth bogus is unknown"):
        evaluate_depth(replace(config, truth="bogus"))


def test_a_frame_without_truth_in_range_costs_only_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = evaluation(tmp_path)
    far = np.full((64, 128), 65, np.uint16)  # a kilometre away, and a little more
    far[0] += 1
    assert cv2.imwrite(str(tmp_path / "true/images/00000000.png"), far)
    result = evaluate_depth(config)
    assert (result["measured_frames"], result["rejected"]) == (5, 1)
    assert "images/00000000: No true depth lies between" in capsys.readouterr().out
    assert (tmp_path / "out" / "depth.png").is_file()


def test_the_mean_of_sparse_truth_of_several_sizes_has_no_seams(tmp_path: Path) -> None:
    spec, folder = images(tmp_path / "images", 1), tmp_path / "true" / "images"
    (tmp_path / "images/large").mkdir()
    large = np.zeros((96, 192, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "images/large/000.png"), large)
    for path, size in ((folder / "large", (96, 192)), (folder, (64, 128))):
        path.mkdir(parents=True, exist_ok=True)
        sparse = np.where(np.indices(size).sum(axis=0) % 4 == 0, 30000, 0).astype(np.uint16)
        sparse[: size[0] // 2] += (sparse[: size[0] // 2] > 0).astype(np.uint16) * 500
        assert cv2.imwrite(str(path / "00000000.png"), sparse)
    config = EvaluateDepthConfig(frames=spec, out=tmp_path, tracking=QUIET)
    depth = open_depth(f"precomputed:{tmp_path / 'true'}")
    mean = _mean_map(config, open_frames(spec), depth)
    assert float(mean.min()) * 65535 > 29999, "no hole was mixed into it"


def test_what_a_network_cannot_be_measured_by_costs_nothing_else(
    tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = evaluation(tmp_path, depth=f"network:{network}")
    (tmp_path / "images/002.jpg").write_bytes(b"\xff\xd8 torn")
    for other in ("000", "004"):
        (tmp_path / f"images/{other}.jpg").unlink()
    result = evaluate_depth(config)
    assert result["measured_frames"] == 3 and "photometric" not in result
    assert "photometry and motion are not evaluated" in capsys.readouterr().out
    result = evaluate_depth(replace(config, truth=""))
    assert "photometric" not in result and result["plausibility_frames"] == 3


def test_a_drive_goes_around_a_damaged_frame(tmp_path: Path, network: Path) -> None:
    root = tmp_path / "ko"
    (root / "sequences/00").mkdir(parents=True)
    images(root / "sequences/00/image_2")
    (root / "sequences/00/calib.txt").write_text("P2: 110 0 63.5 0 0 110 31.5 0 0 0 1 0\n")
    (root / "poses").mkdir()
    poses = [f"1 0 0 0 0 1 0 0 0 0 1 {0.6 * i}\n" for i in range(6)]
    (root / "poses/00.txt").write_text("".join(poses))
    (root / "sequences/00/image_2/005.jpg").write_bytes(b"\xff\xd8 torn")
    config = EvaluateDepthConfig(
        f"network:{network}", f"kitti-odometry:{root}", "", out=tmp_path, tracking=QUIET
    )
    result = evaluate_depth(config)
    assert result["triplets"] == 3 and result["snippets"] == 1


def test_the_baseline_is_read_with_the_same_options(tmp_path: Path) -> None:
    """The first three frames are near, the last three far: a window chooses the baseline."""
    spec = images(tmp_path / "images")
    for i in range(6):
        path = tmp_path / "true" / "images" / f"{i:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = np.linspace(0.2, 1.0, 64)[:, None] if i < 3 else np.linspace(1.0, 0.2, 64)[:, None]
        disparity = np.repeat(rows, 128, axis=1)
        assert cv2.imwrite(str(path), (disparity * 65535).astype(np.uint16))
    given = f"precomputed:{tmp_path / 'true'}"
    config = EvaluateDepthConfig(
        given, spec, given, baseline=spec, out=tmp_path / "out", tracking=QUIET,
        options=FrameOptions(window=":3"),
    )  # fmt: skip
    result = evaluate_depth(config)
    assert result["measured_frames"] == 3
    assert result["baseline_abs_rel"] < 1e-3, "the baseline is the mean of the same three frames"
