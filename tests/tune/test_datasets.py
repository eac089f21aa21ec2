"""New graphs from a prepared dataset are those that prepare would have made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cpcdr.commands.prepare import prepare
from cpcdr.dataset import LAYOUT, PREPARED_SCHEMA, PreparedDataset, read_manifest
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.regroup import region_settings
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.tune.datasets import dataset_with

STREET = "synthetic:seed=3,streets=2,frames=3,height=64,width=128"
BASE = RegionConfig(superpixels=1000)


def make(out: Path, regions: RegionConfig) -> Path:
    none = TrackingConfig("none")
    prepare(PrepareConfig(STREET, out=out, engine="local", regions=regions, tracking=none))
    return out


def rows(folder: Path) -> list[dict[str, object]]:
    dataset = PreparedDataset(folder)
    return dataset.rows(range(len(dataset)), PREPARED_SCHEMA.names)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("prepared") / "data", BASE)


def test_the_rows_are_those_of_prepare(data: Path, tmp_path: Path) -> None:
    wanted = replace(BASE, superpixels=3000, plane_weight=0.5, colour_weight=0.2, gain=3.0)
    made = dataset_with(data, wanted, tmp_path / "datasets")
    assert rows(made) == rows(make(tmp_path / "prepared", wanted))
    assert region_settings(made) == wanted
    manifest, expected = read_manifest(made), read_manifest(tmp_path / "prepared")
    assert manifest["regions_per_frame"] == expected["regions_per_frame"]
    assert manifest["frames"] == expected["frames"] == 6


def test_what_is_there_is_shared(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "datasets"
    assert dataset_with(data, BASE, root) == data and not root.exists()
    graph = replace(BASE, plane_weight=2.0)
    settings = [replace(graph, gain=gain) for gain in (1.0, 4.0)]
    made = [dataset_with(data, one, root) for one in settings]
    assert made[0] != made[1]
    built = list(root.glob("graph-*"))
    assert len(built) == 1, "one graph serves both thresholds"
    before = (made[0] / LAYOUT.manifest).stat().st_mtime_ns
    assert dataset_with(data, settings[0], root) == made[0]
    assert (made[0] / LAYOUT.manifest).stat().st_mtime_ns == before
    first, second = (rows(one) for one in made)
    assert [row["edge_distance"] for row in first] == [row["edge_distance"] for row in second]
    assert [row["regions"] for row in first] != [row["regions"] for row in second]


def test_a_killed_maker_leaves_nothing_that_counts(data: Path, tmp_path: Path) -> None:
    root, wanted = tmp_path / "datasets", replace(BASE, plane_weight=2.0)
    whole = dataset_with(data, wanted, root)
    torn = root / f".{whole.name}.partial"
    whole.rename(torn)
    (torn / LAYOUT.manifest).unlink()
    assert rows(dataset_with(data, wanted, root)) and not torn.exists()
