"""Indices and rejected frames from columns agree with the plain versions, from dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import manifest, write_manifest

from cpcdr.dataset import INDEX_SCHEMA, LAYOUT, REJECTED_SCHEMA, PreparedDataset
from cpcdr.prepare.index import dataset_hash, finished_ids, index_of, rejected_of
from cpcdr.prepare.parts import finish
from cpcdr.runtime.config import config_hash

GOOD = pa.schema([INDEX_SCHEMA.field(name) for name in ("frame_id", "num_regions")])
Rows = list[dict[str, Any]]
Files = dict[str, Rows]


def plain_tables(folder: Path) -> tuple[Rows, Rows]:
    """The index by frame and the rejected frames, by dictionaries of all frames."""
    places: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        for number, row in enumerate(pq.read_table(path, columns=GOOD.names).to_pylist()):
            place = {"part": path.name, "row": number, "num_regions": row["num_regions"]}
            places.setdefault(row["frame_id"], {"frame_id": row["frame_id"], **place})
    tables = [pq.read_table(path) for path in sorted((folder / "rejected").glob("*.parquet"))]
    bad = {row["frame_id"]: row for table in tables for row in table.to_pylist()}
    kept = [row for frame_id, row in sorted(bad.items()) if frame_id not in places]
    return [row for _, row in sorted(places.items())], kept


def write_files(folder: Path, files: Files, schema: pa.Schema) -> None:
    folder.mkdir(parents=True)
    for name, rows in files.items():
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / name, row_group_size=1)


def id_of(number: int) -> str:
    """Sorted by bytes as by characters, also outside of ASCII."""
    return f"{('street', 'straße', '道路')[number % 3]}/{number:08d}"


@st.composite
def parts_of_preparations(draw: st.DrawFn) -> tuple[Files, Files]:
    """Good and rejected rows: parts of consecutive frames, some repeated, in files of any name."""
    good: Files = {}
    bad: Files = {}
    stretches = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=10)
    for number, (first, count) in enumerate(draw(stretches)):
        name = f"{draw(st.integers(0, 999)):03d}-{number}.parquet"
        rejected = draw(st.sets(st.integers(0, count - 1), max_size=3))
        for place in range(count):
            frame = {"frame_id": id_of(first + place)}
            if place in rejected:
                words = {"source": "", "stage": "depth", "reason": f"{number}, {place}"}
                bad.setdefault(name, []).append(frame | words)
            else:
                good.setdefault(name, []).append(frame | {"num_regions": 100 * number + place})
    return good, bad


@settings(deadline=None, max_examples=60)
@given(parts_of_preparations())
def test_all_tables_agree_with_the_plain_ones(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[Files, Files]
) -> None:
    folder = tmp_path_factory.mktemp("index") / "dataset"
    for name, files, schema in zip(
        ("data", "rejected"), drawn, (GOOD, REJECTED_SCHEMA), strict=True
    ):
        write_files(folder / name, files, schema)
    places, kept = plain_tables(folder)
    written = {row["frame_id"] for files in drawn for rows in files.values() for row in rows}
    assert finished_ids(folder).to_pylist() == sorted(written)

    index, rejected = finish(folder)
    assert index.to_pylist() == places and rejected.to_pylist() == kept
    stored = pq.read_table(folder / LAYOUT.index)
    assert stored.schema.equals(INDEX_SCHEMA) and stored.to_pylist() == places
    assert pq.read_table(folder / LAYOUT.rejected).to_pylist() == kept
    ids = index["frame_id"]
    plain_hash = config_hash({"config": "c", "frames": ids.to_pylist()})
    assert dataset_hash("c", ids) == plain_hash

    write_manifest(folder, manifest(len(places), format=4))
    dataset = PreparedDataset(folder)
    assert dataset.frame_ids == [place["frame_id"] for place in places]
    assert dataset._index.places(range(len(dataset))) == [(p["part"], p["row"]) for p in places]
    write_manifest(folder, manifest(len(places), format=3))
    before = PreparedDataset(folder)
    assert before._index.table().equals(dataset._index.table()) and len(before) == len(dataset)


def test_a_folder_without_parts_has_empty_tables(tmp_path: Path) -> None:
    index = index_of(tmp_path)
    assert index.num_rows == 0 and index.column_names == INDEX_SCHEMA.names
    assert rejected_of(tmp_path, index["frame_id"]).num_rows == 0
    assert finished_ids(tmp_path).equals(pa.array([], pa.string()))


@pytest.mark.parametrize("frames", [0, 1, 2**16, 2**16 + 1])
def test_the_hash_in_pieces_is_that_of_all_ids(frames: int) -> None:
    ids = [f'"{id_of(number)}\\' for number in range(frames)]
    plain = config_hash({"config": "c", "frames": ids})
    assert dataset_hash("c", pa.chunked_array([ids[:9], ids[9:]], pa.string())) == plain
