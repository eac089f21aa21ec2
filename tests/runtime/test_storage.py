"""Datasets at a URI. A ``file://`` address stands in for ``s3://``: the same pyarrow code reads it,
but nothing here has talked to a real object store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from manifests import write_manifest

from cpcdr.commands.prepare import prepare
from cpcdr.dataset import PreparedDataset
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.storage import location, open_storage, read_file
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import PretrainConfig
from cpcdr.train.pretrain_task import PretrainTask


def test_addresses() -> None:
    assert location(Path("s3://bucket/a/b")) == "s3://bucket/a/b" == location("s3://bucket/a/b")
    assert location(Path("file:///tmp/x")) == "file:///tmp/x"
    assert location("runs/x") == str(Path("runs/x").absolute())
    with pytest.raises(InputError, match=r"cannot be reached .*; check the address"):
        open_storage("nonsense://x")


def test_a_published_dataset_is_read_from_its_address(tmp_path: Path) -> None:
    address = f"file://{tmp_path}/bucket/dataset"
    config = PrepareConfig(
        "synthetic:streets=2,frames=2,height=64,width=128,seed=7",
        out=tmp_path / "work",
        engine="local",
        publish=address,
        regions=RegionConfig(superpixels=20000),
        tracking=TrackingConfig("none"),
    )
    assert prepare(config)["dataset"] == address
    here, there = PreparedDataset(tmp_path / "work"), PreparedDataset(Path(address))
    assert there.frame_ids == here.frame_ids and there.manifest == here.manifest
    for one, two in zip(here.samples(range(4)), there.samples(range(4)), strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.regions, two.regions)
    task = PretrainTask(location(address), PretrainConfig().model, frames_per_item=2)
    assert task.steps_per_epoch(1) == 2
    assert prepare(config)["reused_frames"] == 4, "the same command does nothing again"
    write_manifest(tmp_path / "bucket" / "dataset", "{}")
    with pytest.raises(InputError, match="holds another dataset"):
        prepare(config)


def test_a_copy_without_its_manifest_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "half" / "data").mkdir(parents=True)
    assert read_file(tmp_path / "half", "manifest.json") is None
    with pytest.raises(InputError, match="is not a prepared dataset"):
        PreparedDataset(f"file://{tmp_path}/half")
