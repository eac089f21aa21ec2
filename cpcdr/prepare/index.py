"""The indices of a dataset and its table of rejected frames, made from the part files.

They stay columns of Arrow, some dozens of bytes per frame: Python's objects would be hundreds.
"""

import hashlib
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpcdr.dataset import INDEX_SCHEMA, REJECTED_SCHEMA

_IDS = pa.schema([INDEX_SCHEMA.field("frame_id")])
_ROW = pa.schema([INDEX_SCHEMA.field(name) for name in ("frame_id", "num_regions")])
_PLACED = pa.schema([*_ROW, INDEX_SCHEMA.field("row"), ("part", pa.int32())])
_TOGETHER = 512
"""Part files whose rows become one chunk: a chunk costs as much as a few dozen rows."""
_HASHED = 2**16


def finished_ids(folder: Path) -> pa.Array:
    """Ids of all frames that are written or rejected already: strings, sorted, each once."""
    kinds = (part_files(folder / "data"), part_files(folder / "rejected"))
    tables = (_columns(path, _IDS) for files in kinds for path in files)
    ids = _by_id(_gathered(tables, _IDS))["frame_id"]
    return ids.filter(_differs_from_last(ids)).combine_chunks()


def index_of(folder: Path) -> pa.Table:
    """The index by frame of the part files of ``folder``; its ``part`` is a dictionary.

    Of a frame that has several rows, the first is in it, in the order of the parts' names.
    """
    files = part_files(folder / "data")
    index = _by_id(_gathered((_placed(path, n) for n, path in enumerate(files)), _PLACED))
    first = _differs_from_last(index["frame_id"])
    index = index if first.all() else index.filter(first)
    names = pa.array([path.name for path in files], pa.string())
    parts = [pa.DictionaryArray.from_arrays(codes, names) for codes in index["part"].chunks]
    column = pa.chunked_array(parts, pa.dictionary(pa.int32(), pa.string()))
    place = index.schema.get_field_index("part")
    return index.set_column(place, "part", column).select(INDEX_SCHEMA.names)


def rejected_of(folder: Path, good: pa.ChunkedArray) -> pa.Table:
    """The rejected frames of ``folder``, but for those that are among the good ids.

    Of a frame that was rejected several times, the last is in it, in the order of the files' names.
    """
    files = part_files(folder / "rejected")
    table = _by_id(_gathered((_columns(path, REJECTED_SCHEMA) for path in files), REJECTED_SCHEMA))
    ids = table["frame_id"]
    last = np.roll(_differs_from_last(ids), -1)
    # The smaller side is hashed: few frames are rejected.
    mended = good.filter(pc.is_in(good, value_set=ids.combine_chunks()))
    return table.filter(last & ~pc.is_in(ids, value_set=mended.combine_chunks()).to_numpy())


def dataset_hash(config: str, ids: pa.ChunkedArray) -> str:
    """``config_hash({"config": config, "frames": ids})``, without the text of all ids at once."""
    head, tail = json.dumps({"config": config, "frames": ["|"]}).split('"|"')
    digest = hashlib.sha256(head.encode())
    for start in range(0, len(ids), _HASHED):
        text = json.dumps(ids[start : start + _HASHED].to_pylist())[1:-1]
        digest.update((", " * (start > 0) + text).encode())
    digest.update(tail.encode())
    return digest.hexdigest()[:12]


def part_files(folder: Path) -> list[Path]:
    """The whole part files in a folder, in a fixed order."""
    return sorted(folder.glob("[!.]*.parquet"))


def _columns(path: Path, schema: pa.Schema) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=schema.names, use_threads=False).select(schema.names).cast(schema)


def _placed(path: Path, part: int) -> pa.Table:
    """Ids and regions of the rows of a part file, and where they are."""
    rows = _columns(path, _ROW)
    row, of = np.arange(len(rows), dtype=np.int32), np.full(len(rows), part, np.int32)
    return pa.Table.from_arrays([*rows.columns, pa.array(row), pa.array(of)], schema=_PLACED)


def _gathered(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """One table of the rows of many small ones."""
    chunks = [schema.empty_table()]
    tables = iter(tables)
    while together := list(islice(tables, _TOGETHER)):
        chunks.append(pa.concat_tables(together).combine_chunks())
    return pa.concat_tables(chunks).combine_chunks()


def _by_id(table: pa.Table) -> pa.Table:
    """In the order of frame ids; rows of one id stay in theirs."""
    return table.take(pc.sort_indices(table["frame_id"]))


def _differs_from_last(ids: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of sorted ids are not the id before: bool [F]."""
    differs = np.ones(len(ids), bool)
    differs[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy()
    return differs
