"""Part files of an unfinished dataset, and its publication.

While prepare runs, ``OUT.partial/`` collects ``data/*.parquet`` (good rows) and
``rejected/*.parquet``, each written to a temporary name, synced and renamed. What is there and not
damaged is done; publication adds the index and the manifest and renames the folder to ``OUT``.
Every page has a checksum, which readers verify.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpcdr.dataset import (
    INDEX_SCHEMA,
    LAYOUT,
    LAYOUT_BEFORE_3,
    PREPARED_SCHEMA,
    REJECTED_SCHEMA,
    ROWS_PER_GROUP,
    PreparedDataset,
    layout_of,
)
from cpcdr.runtime.durable import replace_durable, sync_file


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
    records = [{name: row[name] for name in schema.names} for row in rows]
    write_parquet(path, pa.Table.from_pylist(records, schema=schema))


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
        write_page_checksum=True,
    )
    sync_file(temporary)
    replace_durable(temporary, path)


def _leaf(schema: pa.Schema, name: str) -> str:
    return f"{name}.list.element" if pa.types.is_list(schema.field(name).type) else name


def is_whole(path: Path) -> bool:
    """Whether a Parquet file is there and every page of it has the checksum it was written with."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group, use_threads=False)
    except (OSError, pa.ArrowException):
        return False
    return True


def drop_damaged(folder: Path) -> list[Path]:
    """Delete the damaged part files of an unfinished dataset, so that their frames are redone."""
    parts = [*(folder / "data").glob("[!.]*.parquet"), *(folder / "rejected").glob("[!.]*.parquet")]
    damaged = sorted(path for path in parts if not is_whole(path))
    for path in damaged:
        path.unlink()
    return damaged


def damaged_files(out: Path) -> list[str]:
    """Names of the Parquet files of a finished dataset that are damaged or missing."""
    layout = layout_of(out)
    tables = [name for name in (layout.index, layout.rejected) if not is_whole(out / name)]
    if layout.index in tables:
        return tables
    parts = [f"data/{part}" for part in sorted(PreparedDataset(out).parts)]
    return tables + [part for part in parts if not is_whole(out / part)]


def reopen(out: Path, partial: Path) -> None:
    """Make a finished dataset an unfinished one, of which only the damaged parts are redone."""
    rejected = out / layout_of(out).rejected
    if is_whole(rejected):
        (out / "rejected").mkdir(exist_ok=True)
        shutil.copy2(rejected, out / "rejected" / "earlier.parquet")
    shutil.rmtree(partial, ignore_errors=True)
    replace_durable(out, partial)
    to_present_layout(partial)
    (partial / LAYOUT.manifest).unlink(missing_ok=True)


def to_present_layout(partial: Path) -> None:
    """Move what an unfinished dataset of an earlier format holds about its rows."""
    for before, now in zip(astuple(LAYOUT_BEFORE_3), astuple(LAYOUT), strict=True):
        if (partial / before).exists():
            (partial / now).parent.mkdir(exist_ok=True)
            (partial / before).replace(partial / now)


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
        the index and the table of rejected frames, which are written.
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
    for name, table in ((LAYOUT.index, index), (LAYOUT.rejected, rejected)):
        (folder / name).parent.mkdir(exist_ok=True)
        pq.write_table(table, folder / name, write_page_checksum=True)
        sync_file(folder / name)
    return index, rejected


def publish(partial: Path, final: Path) -> None:
    """Make the finished folder appear under its name in one step."""
    shutil.rmtree(partial / "rejected", ignore_errors=True)
    replace_durable(partial, final)
