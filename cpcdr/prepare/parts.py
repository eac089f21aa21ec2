"""Part files of an unfinished dataset, and its publication.

While prepare runs, ``OUT.partial/`` collects ``data/*.parquet`` (good rows) and
``rejected/*.parquet``, each written to a temporary name, synced and renamed. What is there and not
damaged is done; publication adds the index and the manifest and renames the folder to ``OUT``.
Every page has a checksum, which readers verify.
"""

import hashlib
import os
import shutil
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpcdr.dataset import (
    LAYOUT,
    LAYOUT_BEFORE_3,
    PREPARED_SCHEMA,
    REJECTED_SCHEMA,
    ROWS_PER_GROUP,
    PreparedDataset,
    indexed_by_part,
    layout_of,
    read_manifest,
)
from cpcdr.part_index import index_of_rows
from cpcdr.prepare.index import index_of, rejected_of
from cpcdr.runtime.durable import replace_durable, sync_file
from cpcdr.runtime.errors import InputError

_WRITTEN = 2**20
"""Rows of a table that are written at once."""


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
    layout, by_part = layout_of(out), indexed_by_part(read_manifest(out))
    names = [layout.index, layout.rejected, *([layout.parts] if by_part else [])]
    tables = [name for name in names if not is_whole(out / name)]
    try:
        parts = [f"data/{part}" for part in sorted(PreparedDataset(out).parts)]
    except InputError:  # an index that is whole, but not of this dataset, is damaged too
        return tables or [layout.parts if by_part else layout.index]
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


def finish(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Make the indices and the table of rejected frames; no frame is in them twice.

    A row that a retried task wrote into a second part is left out of the indices, so no reader
    sees it.

    Returns:
        the index by frame and the table of rejected frames, which are written.
    """
    for temporary in [*(folder / "data").glob(".*"), *(folder / "rejected").glob(".*")]:
        temporary.unlink()
    index = index_of(folder)
    rejected = rejected_of(folder, index["frame_id"])
    parts = index["part"].combine_chunks()
    by_part = index_of_rows(parts, index["row"].to_numpy()).table()
    (folder / LAYOUT.index).parent.mkdir(exist_ok=True)
    for name, table in (
        (LAYOUT.index, index),
        (LAYOUT.rejected, rejected),
        (LAYOUT.parts, by_part),
    ):
        _write_table(folder / name, table)
    return index, rejected


def _write_table(path: Path, table: pa.Table) -> None:
    """Write a table about rows; dictionaries become plain strings, a piece at a time."""
    fields = [
        f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in table.schema
    ]
    schema = pa.schema(fields)
    with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for start in range(0, len(table), _WRITTEN):
            writer.write_table(table.slice(start, _WRITTEN).cast(schema))
    sync_file(path)


def publish(partial: Path, final: Path) -> None:
    """Make the finished folder appear under its name in one step."""
    shutil.rmtree(partial / "rejected", ignore_errors=True)
    replace_durable(partial, final)
