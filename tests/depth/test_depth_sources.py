"""Depth sources: the good case of each kind, and the error for every bad input."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import yaml
from plane_world import PlaneWorld
from safetensors.torch import save_file

from cpcdr.depth.model import DepthModel
from cpcdr.depth.network import load_depth_network
from cpcdr.depth.source import check_disparity
from cpcdr.depth.sources import open_depth
from cpcdr.frames.frame import FrameRef
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.train.depth_task import TINY

WORLD = PlaneWorld(length=3)
FRAMES = [WORLD.read(ref) for ref in WORLD.refs()]
SMALL = replace(TINY, channels=8, height=64, width=128)


def write_png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def test_ground_truth():
    maps = open_depth("ground-truth")(FRAMES)
    np.testing.assert_array_equal(maps[1], FRAMES[1].disparity)
    with pytest.raises(FrameError, match=r"s0/00000000.*planes:.*has no exact depth") as caught:
        open_depth("ground-truth")([replace(FRAMES[0], disparity=None)])
    assert caught.value.stage == "depth"


@pytest.mark.parametrize("spec", ["", "lidar", "ground-truth:x", "stereo:1"])
def test_unknown_kind(spec):
    with pytest.raises(InputError, match="ground-truth, precomputed:ROOT"):
        open_depth(spec)


@pytest.mark.parametrize("spec", ["precomputed:", "precomputed:/missing", "network:/missing"])
def test_missing_folder(spec):
    with pytest.raises(InputError, match="not a folder"):
        open_depth(spec)


@pytest.mark.parametrize(
    "name", ["s0/00000001.png", "disp/s0/00000001.png", "s0/shot.png", "disp/shot.png", "shot.png"]
)
def test_precomputed_layouts(tmp_path, name):
    frame = replace(FRAMES[1], ref=FrameRef("s0", 1, "/somewhere/shot.jpg"))
    stored = (frame.disparity * 65535).astype(np.uint16)
    write_png(tmp_path / name, stored)
    source = pickle.loads(pickle.dumps(open_depth(f"precomputed:{tmp_path}")))
    (disparity,) = source([frame])
    assert disparity.dtype == np.float32 and source.name == f"precomputed:{tmp_path}"
    np.testing.assert_allclose(disparity, stored / 65535, rtol=1e-6)


def test_precomputed_of_another_size(tmp_path):
    frame = FRAMES[0]
    large = np.kron(frame.disparity, np.ones((2, 2)))
    write_png(tmp_path / "s0/00000000.png", (large * 65535).astype(np.uint16))
    (disparity,) = open_depth(f"precomputed:{tmp_path}")([frame])
    np.testing.assert_allclose(disparity, frame.disparity, atol=2e-5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((64, 128), 9, np.uint8), "16-bit"),
        (np.full((64, 128, 3), 9, np.uint16), "16-bit"),
        (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), "but its frame"),
        (np.zeros((64, 128), np.uint16), "invalid"),
        (np.full((64, 128), 300, np.uint16), "constant"),
    ],
)
def test_precomputed_bad_files(tmp_path, values, words):
    path = tmp_path / "s0/00000000.png"
    write_png(path, values)
    with pytest.raises(FrameError, match=words) as caught:
        open_depth(f"precomputed:{tmp_path}")(FRAMES[:1])
    assert str(path) in str(caught.value) and caught.value.stage == "depth"


def test_precomputed_missing_and_damaged_files(tmp_path):
    source = open_depth(f"precomputed:{tmp_path}")
    with pytest.raises(FrameError, match=r"s0/00000000\.png is missing"):
        source(FRAMES[:1])
    path = tmp_path / "s0/00000000.png"
    write_png(path, (FRAMES[0].disparity * 65535).astype(np.uint16))
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(FrameError, match="not a complete PNG"):
            source(FRAMES[:1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5])
def test_check_disparity_refuses(value):
    disparity = FRAMES[0].disparity.copy()
    check_disparity(disparity, "x")
    disparity[3, 4] = value
    with pytest.raises(FrameError, match=r"^x: "):
        check_disparity(disparity, "x")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    return write_checkpoint(tmp_path_factory.mktemp("depth"), DepthModel(SMALL))


def write_checkpoint(folder, model, kind="depth"):
    folder.mkdir(exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    values = {"kind": kind, "step": 7, "config": {**to_plain(model.config), "data": "planes:"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_network(checkpoint):
    source = open_depth(f"network:{checkpoint}")
    odd = replace(FRAMES[2], image=FRAMES[2].image[:50, :90])
    maps = source([FRAMES[0], odd, FRAMES[1]])
    assert [m.shape for m in maps] == [(64, 128), (50, 90), (64, 128)]
    assert all(m.dtype == np.float32 and m.min() > 0 and m.max() <= 1 for m in maps)
    model = load_depth_network(checkpoint)
    pixels = torch.from_numpy(FRAMES[1].image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = model.depth(pixels)[0][0, 0].numpy()
    np.testing.assert_allclose(maps[2], expected, atol=1e-3)
    (alone,) = source(FRAMES[1:2])
    np.testing.assert_allclose(alone, expected, rtol=1e-5)  # on a CPU in full precision
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model.depth(pixels)[0]
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half[0, 0].numpy(), expected, rtol=0.05)
    travelled = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 2000
    np.testing.assert_allclose(travelled(FRAMES[:1])[0], maps[0], atol=1e-3)


def test_a_spacing_may_be_one_number_in_the_checkpoint(tmp_path):
    folder = write_checkpoint(tmp_path / "c", DepthModel(replace(SMALL, spacing=(1, 2))))
    assert load_depth_network(folder).config.spacing == (1, 2)
    values = yaml.safe_load((folder / "config.yaml").read_text())
    values["config"]["spacing"] = 2
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    assert load_depth_network(folder).config.spacing == (2,)


def test_collapsed_network_is_refused(tmp_path):
    model = DepthModel(SMALL)
    torch.nn.init.zeros_(model.depth.heads[0].weight)
    source = open_depth(f"network:{write_checkpoint(tmp_path / 'c', model)}")
    with pytest.raises(FrameError, match="has collapsed") as caught:
        source(FRAMES[:1])
    assert caught.value.stage == "depth"


def test_bad_checkpoints(tmp_path, checkpoint):
    with pytest.raises(InputError, match=r"config\.yaml"):
        open_depth(f"network:{tmp_path}")
    other = write_checkpoint(tmp_path / "pretrain", DepthModel(SMALL), kind="pretrain")
    with pytest.raises(InputError, match="pretrain"):
        open_depth(f"network:{other}")
    wide = write_checkpoint(tmp_path / "wide", DepthModel(SMALL))
    save_file(DepthModel(replace(SMALL, channels=16)).state_dict(), wide / "model.safetensors")
    with pytest.raises(InputError, match="do not fit"):
        load_depth_network(wide)
    (wide / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="safetensors"):
        open_depth(f"network:{wide}")
