"""The index by part finds what the index by frame says, from a few runs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpcdr.part_index import PART_INDEX_SCHEMA, PartIndex, index_of_rows, index_of_table

Places = list[tuple[str, int]]
NAMES = ["a.parquet", "b.parquet", "c.parquet"]
stretches = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 9), st.integers(1, 6)), max_size=12
)


def index_of(places: Places) -> PartIndex:
    parts = pa.array([part for part, _ in places], pa.string()).dictionary_encode()
    return index_of_rows(parts, np.array([row for _, row in places], np.int32))


def stored(index: PartIndex) -> pa.Table:
    """The table as it is read: parts as dictionaries."""
    table = index.table()
    return table.set_column(0, "part", table["part"].dictionary_encode())


def plain_runs(places: Places) -> list[tuple[str, int, int]]:
    """(part, row, frames) of each run."""
    runs: list[tuple[str, int, int]] = []
    for part, row in places:
        if runs and part == runs[-1][0] and row == runs[-1][1] + runs[-1][2]:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + 1)
        else:
            runs.append((part, row, 1))
    return runs


@settings(deadline=None, max_examples=200)
@given(stretches, st.randoms(use_true_random=False))
def test_places_and_runs_agree_with_the_plain_ones(
    drawn: list[tuple[str, int, int]], random: object
) -> None:
    places = [(part, first + i) for part, first, count in drawn for i in range(count)]
    index = index_of(places)
    assert [tuple(line.values()) for line in index.table().to_pylist()] == plain_runs(places)
    asked = [random.randrange(len(places)) for _ in range(9)] if places else []  # type: ignore[attr-defined]
    for read in (index, index_of_table(stored(index))):
        assert len(read) == len(places)
        assert read.places(range(len(places))) == places
        assert read.places(asked) == [places[i] for i in asked]


def test_a_part_that_is_in_order_is_one_run() -> None:
    places = [(NAMES[i // 32], i % 32) for i in range(96)]
    table = index_of(places).table()
    assert table.schema == PART_INDEX_SCHEMA
    assert table.to_pylist() == [{"part": name, "row": 0, "frames": 32} for name in NAMES]


@pytest.mark.parametrize("frame", [-1, 2, 2**40])
def test_a_frame_that_is_not_there_is_an_error(frame: int) -> None:
    with pytest.raises(IndexError, match=f"frame {frame} of 2"):
        index_of([("a", 0), ("a", 1)]).places([0, frame])


@pytest.mark.parametrize(
    ("part", "row", "frames"),
    [(None, 0, 1), ("a", None, 1), ("a", -1, 1), ("a", 0, None), ("a", 0, 0), ("a", 0, -3)],
)
def test_runs_that_cannot_be_are_refused(
    part: str | None, row: int | None, frames: int | None
) -> None:
    lines = {"part": ["a", part], "row": [0, row], "frames": [3, frames]}
    table = pa.table(lines, schema=PART_INDEX_SCHEMA)
    table = table.set_column(0, "part", table["part"].dictionary_encode())
    with pytest.raises(ValueError, match="without"):
        index_of_table(table)
