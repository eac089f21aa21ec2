"""A tiny randomly initialised transformers model, saved to disk and loaded offline."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plane_world import PlaneWorld

from cpcdr.depth.sources import open_depth
from cpcdr.runtime.errors import InputError

transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed")
pytestmark = pytest.mark.slow  # the import of transformers alone takes seconds

WORLD = PlaneWorld(length=3)
FRAMES = [WORLD.read(ref) for ref in WORLD.refs()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    config = transformers.DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=16, backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, head_in_index=-1, is_hybrid=False,
    )  # fmt: skip
    transformers.DPTForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_saved_model_gives_disparity(folder: Path) -> None:
    source = pickle.loads(pickle.dumps(open_depth(f"hf:{folder}")))
    maps = source([FRAMES[0], replace(FRAMES[1], image=FRAMES[1].image[:48])])
    assert [m.shape for m in maps] == [(64, 128), (48, 128)]
    assert all(m.dtype == np.float32 and m.min() > 0 and m.max() <= 1 for m in maps)
    np.testing.assert_array_equal(source([FRAMES[0]])[0].shape, maps[0].shape)


def test_bad_folders(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        open_depth(f"hf:{tmp_path}")
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="safetensors"):
        open_depth(f"hf:{tmp_path}")(FRAMES[:1])
