"""The index of a dataset by part: where the row of each frame is, at some bytes per part file.

In the order of their ids, most frames lie in consecutive rows of one part after another. A run is
a stretch of them: a part, its first row, a number of frames. A part is one run, or a few where a
preparation was resumed or a retried task wrote rows twice, which are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

PART_INDEX_SCHEMA = pa.schema([("part", pa.string()), ("row", pa.int32()), ("frames", pa.int32())])
"""A line per run, in the order of frames; a run has ``frames`` frames."""


@dataclass(frozen=True, eq=False)
class PartIndex:
    """The runs of a dataset with F frames in R runs.

    Attributes:
        names: file names of the parts; Arrow's, for Python's strings take thrice the memory.
        part: int32 [R], whose name is ``names[part]``.
        row: int32 [R], the row of the run's first frame.
        first: int64 [R + 1], the number of the run's first frame; the last is F.
    """

    names: pa.StringArray
    part: NDArray[np.int32]
    row: NDArray[np.int32]
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.first[-1])

    def places(self, frames: Sequence[int]) -> list[tuple[str, int]]:
        """Part file and row of each of the given frames, of 0..F-1.

        Raises:
            IndexError: there is no such frame.
        """
        numbers = np.asarray(frames, np.int64)
        outside = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(outside):
            raise IndexError(f"frame {outside[0]} of {len(self)}")
        runs = np.searchsorted(self.first, numbers, side="right") - 1
        rows = self.row[runs] + (numbers - self.first[runs])
        parts = (self.names[part].as_py() for part in self.part[runs].tolist())
        return list(zip(parts, rows.tolist(), strict=True))

    def table(self) -> pa.Table:
        """As it is stored: `PART_INDEX_SCHEMA`."""
        columns = [self.names.take(pa.array(self.part)), self.row, np.diff(self.first)]
        return pa.table(dict(zip(PART_INDEX_SCHEMA.names, columns, strict=True))).cast(
            PART_INDEX_SCHEMA
        )


def index_of_rows(parts: pa.DictionaryArray, row: NDArray[np.int32]) -> PartIndex:
    """The runs of frames whose parts and rows [F] are given in the order of their ids."""
    part = parts.indices.to_numpy()
    continues = (part[1:] == part[:-1]) & (row[1:] == row[:-1] + 1)
    first = np.flatnonzero(np.concatenate([[True], ~continues])[: len(part)])
    ends = np.append(first, len(part)).astype(np.int64)
    return PartIndex(parts.dictionary, part[first], row[first], ends)


def index_of_table(table: pa.Table) -> PartIndex:
    """The stored runs; ``part`` is a column of dictionaries.

    Raises:
        ValueError: they cannot be ones of a dataset.
    """
    table.validate(full=True)
    whole = not any(column.null_count for column in table.columns)
    if not whole or pc.any(pc.less(table["row"], 0)).as_py():
        raise ValueError("rows without a number or a part")
    if pc.any(pc.less(table["frames"], 1)).as_py():
        raise ValueError("runs without frames")
    parts = table["part"].unify_dictionaries().combine_chunks()
    first = np.concatenate([[0], np.cumsum(table["frames"].to_numpy(), dtype=np.int64)])
    return PartIndex(parts.dictionary, parts.indices.to_numpy(), table["row"].to_numpy(), first)
