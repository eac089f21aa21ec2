"""Prepared samples: random access, 16-bit images, damaged folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifests import manifest, write_manifest

from cpcdr.dataset import (
    FORMAT,
    INDEX_SCHEMA,
    LAYOUT,
    LAYOUT_BEFORE_3,
    PREPARED_SCHEMA,
    ROWS_PER_GROUP,
    PreparedDataset,
    decode_sample,
)
from cpcdr.maps import (
    decode_disparity,
    decode_ids,
    disparity_png,
    encode_disparity,
    encode_ids,
    encode_png16,
)
from cpcdr.prepare.parts import damaged_files, drop_damaged, finish, is_whole, reopen, write_part
from cpcdr.runtime.errors import InputError

H, W = 12, 18


def prepared_row(sequence: str, index: int) -> dict[str, Any]:
    """A row whose every number tells the frame index."""
    image = np.full((H, W, 3), index, np.uint8)
    regions = np.zeros((H, W), np.uint16)
    regions[:, W // 2 :] = 1
    return {
        "sequence": sequence,
        "frame_index": index,
        "frame_id": f"{sequence}/{index:08d}",
        "image": cv2.imencode(".png", image)[1].tobytes(),
        "height": H,
        "width": W,
        "intrinsics": [10.0, 10.0, 9.0, 6.0],
        "source": "test:",
        "disparity": encode_disparity(np.full((H, W), (index + 1) / 100, np.float32)),
        "regions": encode_ids(regions),
        "num_regions": 2,
        "superpixels": encode_ids(regions),
        "edges": [0, 1],
        "edge_distance": [0.5],
    }


def noisy_row(sequence: str, index: int) -> dict[str, Any]:
    """A row whose images do not compress, of a size at which they are most of it."""
    noise = np.random.default_rng(index).integers(0, 65536, (4 * H, 4 * W)).astype(np.uint16)
    image = np.stack([noise.astype(np.uint8)] * 3, axis=2)
    return prepared_row(sequence, index) | {
        "image": cv2.imencode(".png", image)[1].tobytes(),
        "height": 4 * H,
        "width": 4 * W,
        "disparity": encode_disparity(noise / np.float32(65535)),
        "regions": encode_ids(noise),
        "superpixels": encode_ids(noise),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven frames in two part files, and not in the order of their ids."""
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    index = []
    for part, frames in (("b.parquet", [10, 3, 4, 9, 1, 0]), ("a.parquet", [2, 8, 7, 6, 5])):
        rows = [prepared_row("s", i) for i in frames]
        table = pa.Table.from_pylist(rows, schema=PREPARED_SCHEMA)
        pq.write_table(table, folder / "data" / part, row_group_size=ROWS_PER_GROUP)
        index += [
            {"frame_id": row["frame_id"], "part": part, "row": at, "num_regions": 2}
            for at, row in enumerate(rows)
        ]
    write_manifest(folder, manifest(11))
    pq.write_table(pa.Table.from_pylist(index, schema=INDEX_SCHEMA), folder / LAYOUT.index)
    return folder


def test_frames_come_in_the_order_of_their_ids_or_as_asked(folder: Path) -> None:
    dataset = PreparedDataset(folder)
    assert len(dataset) == 11
    assert dataset.frame_ids == [f"s/{i:08d}" for i in range(11)]
    asked = [7, 0, 10, 3, 3, 5]
    for i, sample in zip(asked, dataset.samples(asked), strict=True):
        assert sample.frame_id == f"s/{i:08d}"
        assert (sample.image == i).all()
        assert sample.image.shape == (H, W, 3)
        assert np.allclose(sample.disparity, (i + 1) / 100, atol=1 / 65535)
        assert sample.regions.dtype == np.uint16
        assert sample.regions.max() == 1


def test_only_the_row_groups_asked_for_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = pq.ParquetFile.read_row_group

    def counting(self: pq.ParquetFile, group: int, **kwargs: Any) -> pa.Table:
        read.append(group)
        return real(self, group, **kwargs)

    dataset = PreparedDataset(folder)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    rows = dataset.rows([10, 3, 4, 9, 3], ["frame_index"])  # all in b.parquet
    assert [row["frame_index"] for row in rows] == [10, 3, 4, 9, 3]
    assert len(read) == len(set(read)) == 4, "each row once"


def test_a_sample_costs_little_more_than_its_own_bytes(folder: Path) -> None:
    def read_so_far() -> int:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
        return int(lines[0].removeprefix("rchar: "))

    rows = [noisy_row("s", i) for i in range(8)]
    shutil.rmtree(folder)
    write_part(folder, rows)
    finish(folder)
    write_manifest(folder, manifest(8))
    dataset = PreparedDataset(folder)
    dataset.samples([0])  # the footer
    before = read_so_far()
    dataset.samples([6, 2, 5])
    own = sum(len(rows[i][name]) for i in (6, 2, 5) for name in ("image", "disparity", "regions"))
    assert own < read_so_far() - before < 1.2 * own


def test_a_dataset_of_the_second_format_is_read_and_repaired(folder: Path) -> None:
    """Its manifest, index and rejected frames lay beside ``data``; there was no index by part."""
    shutil.rmtree(folder)
    write_part(folder, [prepared_row("s", i) for i in range(6)])
    write_part(folder, [{"frame_id": "torn", "source": "", "stage": "frames", "reason": "no"}])
    finish(folder)
    (folder / LAYOUT.parts).unlink()
    write_manifest(folder, manifest(6, format=2))
    (folder / LAYOUT.settings).write_text("hash: a\n")
    for now, before in zip(astuple(LAYOUT), astuple(LAYOUT_BEFORE_3), strict=True):
        if now != LAYOUT.parts:
            (folder / now).rename(folder / before)
    (folder / "__cpcdr__").rmdir()
    shutil.rmtree(folder / "rejected")
    dataset = PreparedDataset(folder)
    assert dataset.manifest["format"] == 2 and len(dataset.samples(range(6))) == 6
    assert damaged_files(folder) == []
    part = next((folder / "data").iterdir())
    part.write_bytes(part.read_bytes()[:-9])
    assert damaged_files(folder) == [f"data/{part.name}"]

    partial = folder.with_name("dataset.partial")
    reopen(folder, partial)
    assert {p.name for p in partial.iterdir()} == {"__cpcdr__", "data", "rejected"}
    assert (partial / LAYOUT.settings).read_text() == "hash: a\n"
    assert not (partial / LAYOUT.manifest).exists(), "it is unfinished again"
    assert drop_damaged(partial) == [partial / "data" / part.name]
    write_part(partial, [prepared_row("s", i) for i in range(6)])
    index, rejected = finish(partial)
    assert index.num_rows == 6 and rejected["frame_id"].to_pylist() == ["torn"]


def test_a_dataset_of_png_maps_in_groups_of_four_rows_is_read(folder: Path) -> None:
    """What the first format held."""
    for path in (folder / "data").glob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            size = (row["height"], row["width"])
            row["disparity"] = disparity_png(decode_disparity(row["disparity"], size))
            row["regions"] = encode_png16(decode_ids(row["regions"], size))
        table = pa.Table.from_pylist(rows, schema=PREPARED_SCHEMA)
        pq.write_table(table, path, row_group_size=4)
    content = json.loads((folder / LAYOUT.manifest).read_text())
    write_manifest(folder, json.dumps(content | {"format": 1}))
    dataset = PreparedDataset(folder)
    for i, sample in enumerate(dataset.samples(range(len(dataset)))):
        assert np.allclose(sample.disparity, (i + 1) / 100, atol=1 / 65535)
        assert (sample.image == i).all() and sample.regions.max() == 1


@pytest.mark.parametrize("column", ["image", "disparity", "regions"])
def test_a_damaged_image_in_a_row_names_the_frame(column: str) -> None:
    row = prepared_row("s", 3) | {column: b"not an image"}
    with pytest.raises(InputError, match=r"s/00000003.* damaged"):
        decode_sample(row)
    other = encode_ids(np.zeros((H, W + 1), np.uint16))
    if column != "image":
        with pytest.raises(InputError, match=r"s/00000003: .*not of the image's size"):
            decode_sample(prepared_row("s", 3) | {column: other})


def test_what_is_no_dataset_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a prepared dataset; make one with cpcdr prepare"):
        PreparedDataset(tmp_path / "none")
    (tmp_path / "half.partial").mkdir()
    with pytest.raises(InputError, match="unfinished: run the same"):
        PreparedDataset(tmp_path / "half")


DAMAGED = [
    manifest(3, size=[8]),
    manifest(3, size=["8", 8]),
    manifest(3, rejected="none"),
    manifest(3, frames=True),
    manifest(3, config=[]),
    manifest(3, config={"regions": {}}),
    manifest(3, regions_per_frame=None),
]


@pytest.mark.parametrize("text", ["", "{", "[]", '"a"', "{}", '{"hash": "h"}', "null", *DAMAGED])
def test_a_damaged_manifest_is_said(folder: Path, text: str) -> None:
    write_manifest(folder, text)
    with pytest.raises(InputError, match=r"manifest\.json: is damaged"):
        PreparedDataset(folder)


def test_damaged_and_missing_files_are_named(folder: Path) -> None:
    dataset = PreparedDataset(folder)
    part = folder / "data" / "a.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"a\.parquet: is damaged .*redoes just this part"):
        dataset.samples([2])
    part.unlink()
    with pytest.raises(InputError, match=r"a\.parquet"):
        dataset.samples([2])
    assert dataset.samples([0])[0].frame_id == "s/00000000"
    (folder / LAYOUT.index).write_bytes(b"junk")
    with pytest.raises(InputError, match=r"frames\.pq"):
        PreparedDataset(folder)


def test_a_flipped_bit_in_a_part_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    write_part(folder, [prepared_row("s", i) | {"reason": ""} for i in range(5)])
    finish(folder)
    write_manifest(folder, manifest(5))
    dataset = PreparedDataset(folder)
    (part,) = (folder / "data").glob("*.parquet")
    assert is_whole(part) and damaged_files(folder) == []
    data = bytearray(part.read_bytes())
    data[data.index(b"IDAT") + 12] ^= 1
    part.write_bytes(data)
    with pytest.raises(InputError, match=rf"{part.name}: is damaged"):
        dataset.samples([0])
    assert not is_whole(part) and damaged_files(folder) == [f"data/{part.name}"]
    part.unlink()
    assert damaged_files(folder) == [f"data/{part.name}"]


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """Nine frames in two part files, as published, of which frame 4 was written twice."""
    folder = tmp_path / "indexed"
    write_part(folder, [prepared_row("s", i) for i in range(5)])
    write_part(folder, [prepared_row("s", i) for i in range(4, 9)])
    write_part(folder, [{"frame_id": "torn", "source": "", "stage": "frames", "reason": "no"}])
    finish(folder)
    shutil.rmtree(folder / "rejected")
    write_manifest(folder, manifest(9, format=FORMAT))
    return folder


def test_rows_are_found_by_part_alone(indexed: Path) -> None:
    places = pq.read_table(indexed / LAYOUT.index).to_pylist()
    runs = pq.read_table(indexed / LAYOUT.parts).to_pylist()
    assert [run["part"] for run in runs] == [places[0]["part"], places[8]["part"]]
    assert sum(run["frames"] for run in runs) == 9
    (indexed / LAYOUT.index).rename(indexed / "away.pq")
    dataset = PreparedDataset(indexed)
    assert [sample.image[0, 0, 0] for sample in dataset.samples(range(9))] == list(range(9))
    with pytest.raises(InputError, match=r"frames\.pq: cannot be read"):
        _ = dataset.frame_ids
    assert damaged_files(indexed) == [LAYOUT.index]
    (indexed / "away.pq").rename(indexed / LAYOUT.index)
    assert dataset.frame_ids == [f"s/{i:08d}" for i in range(9)]


@pytest.mark.parametrize("damage", ["missing", "junk", "of another dataset"])
def test_a_damaged_index_by_part_is_named_and_redone(indexed: Path, damage: str) -> None:
    path = indexed / LAYOUT.parts
    whole = pq.read_table(path)
    rows = PreparedDataset(indexed).rows(range(9), PREPARED_SCHEMA.names)
    path.unlink()
    if damage == "junk":
        path.write_bytes(b"junk")
    elif damage == "of another dataset":
        pq.write_table(whole.slice(1), path)
    with pytest.raises(InputError, match=r"parts\.pq: cannot be read; run .* just this file"):
        PreparedDataset(indexed)
    assert damaged_files(indexed) == [LAYOUT.parts]
    partial = indexed.with_name("indexed.partial")
    reopen(indexed, partial)
    assert drop_damaged(partial) == []
    _, rejected = finish(partial)
    assert rejected["frame_id"].to_pylist() == ["torn"]
    write_manifest(partial, manifest(9, format=FORMAT))
    assert damaged_files(partial) == [] and pq.read_table(partial / LAYOUT.parts).equals(whole)
    assert PreparedDataset(partial).rows(range(9), PREPARED_SCHEMA.names) == rows


def test_a_dataset_of_the_third_format_has_no_index_by_part(indexed: Path) -> None:
    rows = PreparedDataset(indexed).rows(range(9), PREPARED_SCHEMA.names)
    write_manifest(indexed, manifest(9, format=3))
    (indexed / LAYOUT.parts).unlink()
    assert PreparedDataset(indexed).rows(range(9), PREPARED_SCHEMA.names) == rows
    assert damaged_files(indexed) == []
    (indexed / LAYOUT.index).write_bytes(b"junk")
    assert damaged_files(indexed) == [LAYOUT.index]


def test_files_describe_their_columns(tmp_path: Path) -> None:
    write_part(tmp_path, [prepared_row("s", 0)])
    (part,) = (tmp_path / "data").glob("*.parquet")
    described = {f.name: f.metadata[b"description"].decode() for f in pq.read_schema(part)}
    assert list(described) == PREPARED_SCHEMA.names
    assert pd.read_parquet(tmp_path / "data")["frame_id"].tolist() == ["s/00000000"]
    assert "Zstandard" in described["regions"] and "fx, fy" in described["intrinsics"]


def test_a_dataset_of_a_future_format_is_refused(folder: Path) -> None:
    path = folder / LAYOUT.manifest
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 5}))
    with pytest.raises(InputError, match="has format 5, and this version of cpcdr reads up to 4"):
        PreparedDataset(folder)


def test_no_advice_writes_over_what_is_there(tmp_path: Path) -> None:
    video, folder, missing = tmp_path / "drive.MP4", tmp_path / "frames", tmp_path / "data"
    video.write_bytes(b"a video")
    folder.mkdir()
    for path, words in (
        (video, f"prepare --frames video:{video} --out runs/drive."),
        (folder, "give the folder that cpcdr prepare wrote, its --out."),
        (missing, f"make one with cpcdr prepare --out {missing}."),
    ):
        with pytest.raises(InputError, match="is not a prepared dataset") as error:
            PreparedDataset(path)
        assert str(error.value).endswith(words)
        assert path is missing or f"--out {path}" not in str(error.value)
