"""Part files of an unfinished dataset, and its publication.

While prepare runs, ``OUT.partial/`` collects ``data/*.parquet`` (good rows) and
``rejected/*.parquet``, each written to a temporary name and renamed. What is there is done;
publication adds the index and the manifest and renames the folder to ``OUT``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpcdr.dataset import INDEX_SCHEMA, PREPARED_SCHEMA, REJECTED_SCHEMA, ROWS_PER_GROUP


def write_part(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as part files named by their frame ids: writing them again replaces the same."""
    name = hashlib.sha256("\n".join(row["frame_id"] for row in rows).encode()).hexdigest()[:16]
    good = [row for row in rows if not row.get("reason")]
    bad = [row for row in rows if row.get("reason")]
    # The rejected go first: a kill in between repeats them, and repeats are dropped at the end.
    if bad:
        _write(folder / "rejected" / f"{name}.parquet", bad, REJECTED_SCHEMA)
    if good:
        _write(folder / "data" / f"{name}.parquet", good, PREPARED_SCHEMA)


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = [{name: row[name] for name in schema.names} for row in rows]
    write_parquet(path, pa.Table.from_pylist(chosen, schema=schema))


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically, in small row groups.

    Images are compressed already; the numbers beside them are worth zstd.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    numbers = [
        name for name in table.schema.names if not pa.types.is_binary(table.schema.field(name).type)
    ]
    compression = {n: "zstd" if n in numbers else "none" for n in table.schema.names}
    pq.write_table(
        table,
        temporary,
        row_group_size=ROWS_PER_GROUP,
        # List columns are addressed by the path of their values.
        compression={_leaf(table.schema, n): c for n, c in compression.items()},
        use_dictionary=False,
        write_statistics=False,
    )
    temporary.replace(path)


def _leaf(schema: pa.Schema, name: str) -> str:
    return f"{name}.list.element" if pa.types.is_list(schema.field(name).type) else name


def finished_ids(folder: Path) -> set[str]:
    """Ids of all frames that are written or rejected already."""
    return {frame_id for _, _, frame_id in part_rows(folder / "data")} | {
        frame_id for _, _, frame_id in part_rows(folder / "rejected")
    }


def part_rows(folder: Path) -> Iterator[tuple[str, int, str]]:
    """(part, row, frame id) of all whole part files, in a fixed order."""
    for path in sorted(folder.glob("[!.]*.parquet")):
        ids = pq.read_table(path, columns=["frame_id"])["frame_id"].to_pylist()
        for row, frame_id in enumerate(ids):
            yield path.name, row, frame_id


def finish(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Make the index and the table of rejected frames; no frame is in them twice.

    A row that a retried task wrote into a second part is left out of the index, so no reader
    sees it.

    Returns:
        the tables of ``frames.parquet`` and ``rejected.parquet``, which are written.
    """
    for temporary in [*(folder / "data").glob(".*"), *(folder / "rejected").glob(".*")]:
        temporary.unlink()
    places: dict[str, tuple[str, int]] = {}
    for part, row, frame_id in part_rows(folder / "data"):
        places.setdefault(frame_id, (part, row))
    regions: dict[tuple[str, int], int] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        column = pq.read_table(path, columns=["num_regions"])["num_regions"].to_pylist()
        regions |= {(path.name, row): count for row, count in enumerate(column)}
    index = pa.Table.from_pylist(
        [
            {"frame_id": i, "part": p[0], "row": p[1], "num_regions": regions[p]}
            for i, p in sorted(places.items())
        ],
        schema=INDEX_SCHEMA,
    )
    tables = [pq.read_table(path) for path in sorted((folder / "rejected").glob("*.parquet"))]
    bad = {row["frame_id"]: row for table in tables for row in table.to_pylist()}
    kept = [row for frame_id, row in sorted(bad.items()) if frame_id not in places]
    rejected = pa.Table.from_pylist(kept, schema=REJECTED_SCHEMA)
    pq.write_table(index, folder / "frames.parquet")
    pq.write_table(rejected, folder / "rejected.parquet")
    return index, rejected


def publish(partial: Path, final: Path) -> None:
    """Make the finished folder appear under its name in one step."""
    shutil.rmtree(partial / "rejected", ignore_errors=True)
    partial.rename(final)
