"""Out as PNG files and in again: the same frames, disparity and regions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifests import manifest, write_manifest

from cpcdr.commands.export_png import export_png
from cpcdr.commands.prepare import prepare
from cpcdr.dataset import PreparedDataset, read_manifest
from cpcdr.maps import encode_ids
from cpcdr.prepare.config import ExportPngConfig, PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig

QUIET = TrackingConfig("none")


@pytest.mark.slow
def test_a_dataset_survives_the_round_trip(tmp_path: Path) -> None:
    regions = RegionConfig(superpixels=20000)
    street = "synthetic:streets=2,frames=2,height=64,width=128,seed=7"
    first = PrepareConfig(
        frames=street, out=tmp_path / "a", engine="local", regions=regions, tracking=QUIET
    )
    prepare(first)
    tree = tmp_path / "tree"
    assert export_png(ExportPngConfig(tmp_path / "a", tree))["frames"] == 4
    assert {p.name for p in tree.iterdir()} == {"rgb", "disp", "region"}
    assert len(list(tree.rglob("*.png"))) == 12

    back = PrepareConfig(
        frames=f"images:{tree / 'rgb'}",
        depth=f"precomputed:{tree}",
        region_maps=tree,
        out=tmp_path / "b",
        engine="local",
        regions=regions,
        tracking=QUIET,
    )
    prepare(back)
    a, b = PreparedDataset(tmp_path / "a"), PreparedDataset(tmp_path / "b")
    assert len(b) == 4 and read_manifest(tmp_path / "b")["rejected"] == 0
    for one, two in zip(a.samples(range(4)), b.samples(range(4)), strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_allclose(one.disparity, two.disparity, atol=2e-5)
        # Numbers may differ, the regions do not.
        pairs = np.unique(np.stack([one.regions.ravel(), two.regions.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(one.regions)) == len(np.unique(two.regions))


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    config = PrepareConfig(
        frames="synthetic:streets=1,frames=1,height=64,width=128",
        region_maps=tmp_path / "nothing",
        out=tmp_path / "a",
        engine="local",
        tracking=QUIET,
    )
    with pytest.raises(InputError, match="nothing: is not a folder"):
        prepare(config)


@pytest.mark.parametrize("sequence", ["../../outside", "/tmp/cpcdr-outside"])
def test_a_frame_id_cannot_leave_the_folder(tmp_path: Path, sequence: str) -> None:
    data, out = tmp_path / "data", tmp_path / "trees" / "out"
    (data / "data").mkdir(parents=True)
    write_manifest(data, manifest(1))
    pixels = encode_ids(np.ones((8, 8), np.uint16))
    image = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    row = {"frame_id": f"{sequence}/00000000", "image": image}
    row |= {"disparity": pixels, "regions": pixels}
    pq.write_table(pa.Table.from_pylist([row]), data / "data" / "part.parquet")
    out.parent.mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="would be written outside"):
        export_png(ExportPngConfig(data=data, out=out))
    assert sorted(tmp_path.rglob("*")) == before and not Path("/tmp/cpcdr-outside").exists()
