"""A tiny randomly initialised transformers model, saved to disk and loaded offline."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from plane_world import PlaneWorld
from torch.nn import functional

from cpcdr.depth.huggingface import _without_padding
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


def test_metres_are_inverted_and_relative_depth_is_scaled(folder: Path, tmp_path: Path) -> None:
    """The same tiny model, far enough for metres, once as it is and once marked as metric."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = transformers.DPTForDepthEstimation.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=[FRAMES[0].image], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        for weight in (*model.neck.parameters(), *model.head.parameters()):
            weight.mul_(14.0 if weight.ndim > 1 else 1.0)  # random ones are too small to tell apart
        model.head.head[-2].bias.fill_(20.0)
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        values = model(pixels).predicted_depth[None]
    expected = functional.interpolate(values, (64, 128), mode="bilinear")[0, 0].numpy()
    (relative,) = open_depth(f"hf:{tmp_path}")(FRAMES[:1])
    np.testing.assert_allclose(relative, expected / expected.max(), rtol=1e-3)
    model.config.depth_estimation_type = "metric"
    model.save_pretrained(tmp_path)
    (metric,) = open_depth(f"hf:{tmp_path}")(FRAMES[:1])
    np.testing.assert_allclose(metric, 1 / expected, rtol=1e-3)


def test_bad_folders(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        open_depth(f"hf:{tmp_path}")
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="safetensors"):
        open_depth(f"hf:{tmp_path}")(FRAMES[:1])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ZoeDepthImageProcessor", {"size": {"height": 64, "width": 96}, "ensure_multiple_of": 32}),
        ("DPTImageProcessor", {"size": {"height": 40, "width": 72}, "do_pad": True,
                               "size_divisor": 32}),
        ("DPTImageProcessor", {"size": {"height": 32, "width": 64}}),
    ],
)  # fmt: skip
def test_padding_of_a_processor_is_taken_off_again(kind: str, settings: dict[str, Any]) -> None:
    """A network that answers with its input: the map shows the image itself, border to border."""
    processor = getattr(transformers, kind)(**settings, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    ramp = np.indices((64, 128)).sum(axis=0, dtype=np.float32) / 190
    image = np.repeat((255 * ramp)[..., None], 3, axis=2).astype(np.uint8)
    pixels = processor(images=[image, image], return_tensors="pt")["pixel_values"]
    output = SimpleNamespace(predicted_depth=pixels.mean(dim=1))
    maps = _without_padding(processor, [image, image], output, pixels.shape[-2:])
    for values in maps:
        seen = functional.interpolate(values[None, None], (64, 128), mode="bilinear")[0, 0]
        assert np.abs(seen.numpy() - ramp).max() < 0.03


def test_a_saved_model_whose_processor_pads(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    padding = transformers.ZoeDepthImageProcessor(
        size={"height": 32, "width": 32}, keep_aspect_ratio=False, ensure_multiple_of=32
    )
    padding.save_pretrained(tmp_path)
    source = open_depth(f"hf:{tmp_path}")
    (values,) = source(FRAMES[:1])
    assert values.shape == (64, 128) and values.min() > 0 and values.max() <= 1
    model = transformers.DPTForDepthEstimation.from_pretrained(tmp_path)
    pixels = padding(images=[FRAMES[0].image], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        padded = model(pixels).predicted_depth[0].numpy()
    # Undone by hand: to the size with the borders of the paper's code, then those cut away.
    high, wide = (int(np.sqrt(side / 2) * 3) for side in (64, 128))
    grown = cv2.resize(padded, (128 + 2 * wide, 64 + 2 * high), interpolation=cv2.INTER_CUBIC)
    inside = grown[high:-high, wide:-wide]
    np.testing.assert_allclose(values, np.clip(inside / inside.max(), 0.005, 1), atol=0.02)
