"""Two hundred damaged inputs: none ends the run, good frames arrive, bad ones are recorded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from cpcdr.commands.prepare import prepare
from cpcdr.dataset import LAYOUT, PreparedDataset
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.tracking.config import TrackingConfig

H, W, FRAMES = 48, 96, 200
KINDS = (
    *("good", "cut", "flipped", "size", "deep", "grey", "alpha", "empty", "text", "huge"),
    *("no map", "cut map", "flat map", "zero map", "shallow map", "wide map"),
)
FINE = {"good", "deep", "grey", "alpha"}  # read as 8-bit RGB
EITHER = {"flipped"}  # a flipped bit may hit a pixel or the structure of the file


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def image_bytes(kind: str, image: np.ndarray, rng: np.random.Generator) -> bytes:
    good = png(image)
    if kind == "flipped":
        damaged = bytearray(good)
        for at in rng.integers(8, len(good), 3):
            damaged[at] ^= 1 << int(rng.integers(8))
        return bytes(damaged)
    huge = bytearray(good)
    huge[16:24] = (200_000).to_bytes(4, "big") * 2  # the header claims 40 billion pixels
    return {
        "cut": good[: int(rng.integers(20, len(good) - 20))],
        "size": png(image[: H // 2]),
        "deep": png(image.astype(np.uint16) * 257),
        "grey": png(image[..., 0]),
        "alpha": png(np.dstack([image, np.full((H, W), 255, np.uint8)])),
        "empty": b"",
        "text": b"this is no image",
        "huge": bytes(huge),
    }.get(kind, good)


def map_bytes(kind: str, disparity: np.ndarray) -> bytes | None:
    good = png(disparity)
    return {
        "no map": None,
        "cut map": good[: len(good) // 2],
        "flat map": png(np.full_like(disparity, 999)),
        "zero map": png(np.zeros_like(disparity)),
        "shallow map": png((disparity >> 8).astype(np.uint8)),
        "wide map": png(disparity[: H // 2]),
    }.get(kind, good)


@pytest.mark.slow
def test_every_good_frame_arrives_and_every_bad_one_is_recorded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, maps = tmp_path / "images" / "drive", tmp_path / "maps" / "drive"
    images.mkdir(parents=True)
    maps.mkdir(parents=True)
    slope = np.linspace(900, 22000, H)[:, None] * np.ones(W)
    kinds = [KINDS[0] if i < 2 else KINDS[i % len(KINDS)] for i in range(FRAMES)]
    for i, kind in enumerate(kinds):
        image = rng.integers(0, 255, (H // 8, W // 8, 3)).repeat(8, 0).repeat(8, 1)
        disparity = slope.copy()
        left = int(rng.integers(0, W - 30))
        disparity[15:40, left : left + 30] = 18000
        (images / f"{i:05d}.png").write_bytes(image_bytes(kind, image.astype(np.uint8), rng))
        stored = map_bytes(kind, disparity.astype(np.uint16))
        if stored is not None:
            (maps / f"{i:05d}.png").write_bytes(stored)
    result = prepare(
        PrepareConfig(
            frames=f"images:{tmp_path / 'images'}",
            depth=f"precomputed:{tmp_path / 'maps'}",
            out=tmp_path / "dataset",
            engine="local",
            allow_poor_depth=True,
            regions=RegionConfig(superpixels=20000),
            tracking=TrackingConfig("none"),
        )
    )
    arrived = {int(i.rpartition("/")[2]) for i in PreparedDataset(tmp_path / "dataset").frame_ids}
    rejected = pq.read_table(tmp_path / "dataset" / LAYOUT.rejected).to_pylist()
    refused = {int(row["frame_id"].rpartition("/")[2]) for row in rejected}
    assert arrived | refused == set(range(FRAMES)) and not arrived & refused
    assert result["frames"] == len(arrived) and result["rejected"] == len(refused)
    for i, kind in enumerate(kinds):
        if kind not in EITHER:
            assert (i in arrived) == (kind in FINE), f"{i:05d}.png is {kind}"
    for row in rejected:
        number = str(int(row["frame_id"].rpartition("/")[2]))
        assert number in row["reason"], "the sentence names the file"
        assert row["stage"] in ("frames", "depth", "regions") and len(row["reason"]) > 20
