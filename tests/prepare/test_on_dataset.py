"""Preparation on somebody's own Ray Dataset: the rows are those that the command writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.data

from cpcdr.dataset import PREPARED_SCHEMA, PreparedDataset, decode_sample
from cpcdr.frames import FrameOptions, open_frames
from cpcdr.prepare.on_dataset import PrepareImages, prepare_images
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.errors import InputError

STREET = "synthetic:streets=2,frames=2,height=64,width=128,seed=7"
REGIONS = RegionConfig(superpixels=2000)


def images(**changes: Any) -> list[dict[str, Any]]:
    """Rows of somebody's own: encoded files, and where they are from."""
    source = open_frames(STREET)
    frames = [source.read(ref) for ref in source.refs()]
    return [
        {
            "image": f.encoded,
            "sequence": f.ref.sequence,
            "frame_index": f.ref.frame_index,
            "intrinsics": f.intrinsics,
            "source": f.source,
            **changes,
        }
        for f in frames
    ]


@pytest.mark.slow
def test_the_rows_are_those_of_the_command(tmp_path: Path, ray_local: object) -> None:
    from cpcdr.commands.prepare import prepare
    from cpcdr.prepare.config import PrepareConfig
    from cpcdr.runtime.tracking.config import TrackingConfig

    quiet = TrackingConfig("none")
    config = PrepareConfig(
        STREET, "street", tmp_path / "data", engine="local", regions=REGIONS,
        allow_poor_depth=True, tracking=quiet,
    )  # fmt: skip
    prepare(config)
    dataset = PreparedDataset(tmp_path / "data")
    expected = dataset.rows(range(len(dataset)), PREPARED_SCHEMA.names)

    own = ray.data.from_items(images())
    rows = prepare_images(own, "street", REGIONS, num_cpus=0.5)
    made = sorted(rows.take_all(), key=lambda row: row["frame_id"])
    assert [row.pop("reason") for row in made] == [""] * 4 and made[0].pop("stage") == ""
    for row, other in zip(made, expected, strict=True):
        for name in ("edges", "edge_distance", "intrinsics"):
            np.testing.assert_array_equal(row.pop(name), other.pop(name))
        assert {name: row[name] for name in other} == other
    assert ray.data.read_parquet(str(config.out)).count() == 4
    assert rows.schema().names == [*PREPARED_SCHEMA.names, "stage", "reason"]


@pytest.mark.slow
def test_a_folder_of_pictures_with_a_broken_one(tmp_path: Path, ray_local: object) -> None:
    from cpcdr.visualize.pictures import save_png

    source = open_frames(STREET)
    for i, ref in enumerate(source.refs()[:2]):
        save_png(tmp_path / f"{i}.png", source.read(ref).image)
    save_png(tmp_path / "black.png", np.zeros((64, 128, 3), np.uint8))
    pictures = ray.data.read_images(str(tmp_path), include_paths=True)
    rows = prepare_images(pictures, "street", REGIONS, num_cpus=0.5).take_all()
    good = {row["frame_id"].split("/")[-2]: row for row in rows if not row["reason"]}
    (bad,) = [row for row in rows if row["reason"]]
    assert good.keys() == {"0.png", "1.png"} and "has no contrast" in bad["reason"]
    assert bad["frame_id"].endswith("/black.png/00000000") and bad["image"] is None
    for i, ref in enumerate(source.refs()[:2]):
        sample = decode_sample(good[f"{i}.png"])
        np.testing.assert_array_equal(sample.image, source.read(ref).image)
        assert sample.frame_id == f"{str(tmp_path)[1:]}/{i}.png/00000000"


def test_missing_columns_are_named(ray_local: object) -> None:
    rows = ray.data.from_items([{"picture": b"", "path": "a.png"}])
    with pytest.raises(InputError, match=r"has the columns .*it needs 'image', and 'sequence'"):
        prepare_images(rows)
    with pytest.raises(InputError, match="it needs 'picture'"):
        prepare_images(rows.drop_columns(["path"]), column="picture")


class Half:
    name = "half:"

    def __call__(self, frames: list[Any]) -> list[Any]:
        return [np.linspace(0.1, 0.9, f.image.size // 3, dtype=np.float32).reshape(
            f.image.shape[:2]) for f in frames]  # fmt: skip


@pytest.mark.parametrize(
    ("image", "changes", "reason"),
    [
        (np.zeros((64, 128, 3), np.float32), {}, "is neither uint8"),
        (np.zeros((64, 128), np.uint8), {}, "is neither uint8"),
        (b"no image", {}, "cannot be decoded|not an image|unknown"),
        (None, {"intrinsics": np.ones(3)}, "are not fx, fy, cx, cy"),
        (None, {"intrinsics": np.array([100.0, 100.0, 9999.0, 32.0])}, "s/00000000"),
    ],
)
def test_what_cannot_be_used_has_a_reason(image: Any, changes: Any, reason: str) -> None:
    good = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    row = {"image": good if image is None else image, "sequence": "/s/", "frame_index": 0}
    batch = {name: [value] for name, value in (row | changes).items()}
    (made,) = PrepareImages(Half(), REGIONS)(batch).to_pylist()
    assert made["frame_id"] == "s/00000000" and made["image"] is None
    assert re.search(reason, made["reason"])


def test_large_pictures_are_scaled_with_their_camera() -> None:
    large = np.random.default_rng(0).integers(0, 256, (128, 256, 3), dtype=np.uint8)
    batch = {"image": [large], "path": ["/drives/../a.jpg"]}
    options = FrameOptions(intrinsics="200,200,127.5,63.5")
    step = PrepareImages(Half(), REGIONS, options, pixels=64 * 128)
    (made,) = step(batch).to_pylist()
    assert made["reason"] == "" and (made["height"], made["width"]) == (64, 128)
    assert made["intrinsics"] == [100.0, 100.0, 63.5, 31.5]
    assert made["frame_id"] == "drives/a.jpg/00000000"
