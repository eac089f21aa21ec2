"""Depth learned on rendered streets: shots, the camera they pass through, network and source."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from epochs import epoch_batches

from cpcdr.depth.config import StreetConfig, default_depth
from cpcdr.depth.source import DepthSource
from cpcdr.depth.sources import depth_digest, open_depth
from cpcdr.depth.street import PACKAGED, Street, network_size, save_street_network
from cpcdr.depth.street_augment import as_camera, distort
from cpcdr.depth.street_net import START, StreetNet
from cpcdr.depth.street_shots import SHAPES, Shot, render_shot
from cpcdr.frames import open_frames
from cpcdr.runtime.errors import InputError
from cpcdr.train.street_task import StreetModule, StreetTask

SIZE = (64, 128)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return [render_shot(4, number, SIZE) for number in range(8)]


def test_shots_are_a_function_of_seed_and_number(shots: list[Shot]) -> None:
    again = render_shot(4, 5, SIZE)
    assert np.array_equal(again.image, shots[5].image)
    assert np.array_equal(again.depth, shots[5].depth) and again.focal == shots[5].focal
    assert len({shot.focal for shot in shots}) == len(shots), "every shot has its own camera"
    assert all(shot.depth.min() >= 1 and shot.depth.max() <= 200 for shot in shots)


def test_the_road_is_as_far_as_camera_height_and_focal_length_say(shots: list[Shot]) -> None:
    """A level plane h below the camera lies at z = f h / (row - horizon): 1/z is linear in rows."""
    for shot in shots:
        column = 1 / shot.depth[-12:, SIZE[1] // 2]
        if np.ptp(np.diff(column)) < 1e-3 and column[-1] > column[0]:  # nothing stands on it
            heights = np.diff(column).mean() * shot.focal
            assert 1 / 2.8 < heights < 1 / 0.8, "1/h for cameras 0.9 to 2.6 m high, nearly level"
            break
    else:
        raise AssertionError("no shot shows free road")


def test_a_camera_changes_colours_and_keeps_depth_with_its_pixels(shots: list[Shot]) -> None:
    changed = 0
    for number, shot in enumerate(shots):
        seen = as_camera(shot, np.random.default_rng(number))
        assert seen.image.dtype == np.uint8 and seen.image.shape == shot.image.shape
        assert seen.depth.shape == shot.depth.shape and seen.focal == shot.focal
        assert np.isin(seen.depth, shot.depth).all(), "depth moves, it is never mixed"
        changed += not np.array_equal(seen.image, shot.image)
    assert changed == len(shots)
    first, second = (as_camera(shots[0], np.random.default_rng(9)).image for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("k1", [-0.25, -0.1, 0.0, 0.1])
def test_distortion_moves_image_and_depth_alike_and_invents_nothing(k1: float) -> None:
    rows, columns = np.mgrid[:64, :128]
    image = np.stack([rows * 2, columns, rows * 0], 2).astype(np.uint8)
    depth = (rows * 128 + columns).astype(np.float32)
    warped, moved = distort(image, depth, k1)
    source_row, source_column = np.divmod(moved.astype(int), 128)
    assert np.abs(warped[..., 0] / 2 - source_row).max() <= 1
    assert np.abs(warped[..., 1].astype(int) - source_column).max() <= 1
    if k1 == 0:
        assert np.array_equal(warped, image)


def test_the_network_starts_far_and_takes_any_size() -> None:
    torch.manual_seed(0)
    network = StreetNet(16).eval()
    with torch.no_grad():
        for size in ((64, 96), (96, 160)):
            found = network(torch.rand(2, 3, *size))
            assert found.shape == (2, 1, *size) and abs(float(found.mean()) - START) < 1


def test_a_perfect_prediction_has_no_loss_and_a_wrong_scale_has() -> None:
    module = StreetModule(StreetConfig(16))
    depth = 1 + 150 * torch.rand(2, 1, *SIZE)
    batch = {"images": torch.rand(2, 3, *SIZE), "depth": depth, "focal": torch.tensor([80.0, 160])}
    truth = (batch["focal"][:, None, None, None] / depth).log()
    module.network.forward = lambda images: truth  # type: ignore[method-assign]
    assert float(module(batch)["loss"]) == 0 and float(module(batch)["delta1"]) == 1
    module.network.forward = lambda images: truth + 0.3  # type: ignore[method-assign]
    found = module(batch)
    assert float(found["loss"]) == pytest.approx(0.3 * 0.3, abs=1e-5), "of scale alone"
    assert float(found["abs_rel"]) == pytest.approx(1 - np.exp(-0.3), abs=1e-5)
    depth[:, :, :20] = 200
    sky = (batch["focal"][:, None, None, None] / depth).log() - 1.0 * (depth == 200)
    module.network.forward = lambda images: sky  # type: ignore[method-assign]
    assert float(module(batch)["loss"]) == 0, "the sky may be farther"


@pytest.fixture
def street(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "street.safetensors"
    save_street_network(path, StreetNet(16))
    return path


def test_a_longer_lens_sees_the_same_pixels_farther(street: Path) -> None:
    """The network says f/z, so twice the focal length is twice the distance."""
    source = open_frames("synthetic:streets=1,frames=1,height=96,width=192")
    frame = source.read(source.refs()[0])
    longer = frame.__class__(**{**vars(frame), "intrinsics": frame.intrinsics * [2, 2, 1, 1]})
    depth: DepthSource = open_depth(f"street:{street}")
    near, far = depth([frame, longer])
    inside = (near > 0.011) & (near < 0.99)
    assert near.shape == frame.image.shape[:2] and inside.mean() > 0.5
    np.testing.assert_allclose(far[inside], near[inside] / 2, rtol=1e-4)


def test_it_travels_without_its_weights_and_refuses_other_files(
    street: Path, tmp_path: Path
) -> None:
    assert len(pickle.dumps(Street("street:x", street))) < 1000
    other = tmp_path / "other.safetensors"
    for content in (b"", b"no weights", street.read_bytes()[:-100]):
        other.write_bytes(content)
        with pytest.raises(InputError, match=f"{other.name}.*--depth street"):
            open_depth(f"street:{other}")
    with pytest.raises(InputError, match=r"missing.*--depth street"):
        open_depth(f"street:{tmp_path / 'missing'}")


def test_other_weights_are_other_inputs(street: Path, tmp_path: Path) -> None:
    own = depth_digest(open_depth(f"street:{street}"))
    save_street_network(tmp_path / "two.safetensors", StreetNet(16))
    assert len({own, depth_digest(open_depth(f"street:{tmp_path / 'two.safetensors'}")), ""}) == 3


def test_batches_are_of_one_shape_and_a_function_of_seed_and_step() -> None:
    task = StreetTask(StreetConfig(16, shots=8, batch_size=2), seed=3)
    assert task.steps_per_epoch(1) == 4 and task.steps_per_epoch(2) == 2
    batches = epoch_batches(task, 1)
    assert [tuple(b["images"].shape[2:]) for b in batches] == [*SHAPES, *SHAPES]
    assert all(b["depth"].shape[2:] == b["images"].shape[2:] for b in batches)
    again = epoch_batches(pickle.loads(pickle.dumps(task)), 1, 2)
    assert all(torch.equal(a[k], b[k]) for a, b in zip(batches[2:], again, strict=True) for k in a)
    ranks = [
        {float(f) for b in epoch_batches(task, 0, 0, r, 2) for f in b["focal"]} for r in (0, 1)
    ]
    assert not ranks[0] & ranks[1], "ranks see different shots"


def test_the_default_is_exact_on_the_synthetic_street_only() -> None:
    for frames in ("", "synthetic:seed=1,frames=2", "synthetic:seed=1, synthetic:seed=2"):
        assert default_depth(frames) == "ground-truth"
    for frames in ("video:a,b.mp4", "synthetic:seed=1,images:x", "kitti-raw:K"):
        assert default_depth(frames) == "street"


def test_the_packaged_network_knows_unseen_streets() -> None:
    """The network that users get: metres without alignment, on streets that it was not shown."""
    assert PACKAGED.stat().st_size < 5e6
    source = open_frames("synthetic:seed=4321,streets=6,frames=1,height=192,width=384")
    frames = [source.read(ref) for ref in source.refs()]
    maps = open_depth("street")(frames)
    for frame, disparity in zip(frames, maps, strict=True):
        assert frame.disparity is not None
        near = frame.disparity > 1 / 80
        ratio = np.log(disparity[near] / frame.disparity[near])
        assert np.abs(ratio).mean() < 0.3, frame.ref.frame_id


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(InputError, match="at least 16"):
        StreetConfig(8)


def test_pictures_keep_their_aspect_and_budget() -> None:
    for shape in ((540, 960), (375, 1242), (480, 640), (1080, 1920), (1920, 1080)):
        height, width = network_size(shape)
        assert height % 32 == width % 32 == 0
        assert abs(np.log(height / width * shape[1] / shape[0])) < 0.12
        assert 0.75 < height * width / (192 * 640) < 1.35
