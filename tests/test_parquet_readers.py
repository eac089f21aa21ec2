"""The folder of a dataset is its rows to everything that reads folders of Parquet files.

The calls are those of the guide.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from manifests import manifest, write_manifest
from test_dataset import prepared_row

from cpcdr.dataset import LAYOUT, PREPARED_SCHEMA, PreparedDataset
from cpcdr.prepare.parts import finish, write_part

FRAMES = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A published dataset of two parts, with a rejected frame."""
    folder = tmp_path_factory.mktemp("runs") / "data"
    for start in (0, 4):
        write_part(folder, [prepared_row("s", i) for i in range(start, min(start + 4, FRAMES))])
    write_part(folder, [{"frame_id": "s/9", "source": "x", "stage": "frames", "reason": "torn"}])
    finish(folder)
    for path in (folder / "rejected").iterdir():
        path.unlink()
    (folder / "rejected").rmdir()  # as publication does
    write_manifest(folder, manifest(FRAMES))
    (folder / LAYOUT.settings).write_text("hash: a\n")
    assert len(PreparedDataset(folder)) == FRAMES
    return str(folder)


def of_datasets(data: str) -> pd.DataFrame:
    """By Hugging Face's library, which caches what it reads."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    from datasets import load_dataset

    cache = str(Path(data).with_name("cache"))
    return load_dataset("parquet", data_dir=data, split="train", cache_dir=cache).to_pandas()


READERS: dict[str, Callable[[str], pd.DataFrame]] = {
    "pandas": pd.read_parquet,
    "pyarrow": lambda data: pq.read_table(data).to_pandas(),
    "polars": lambda data: pl.read_parquet(f"{data}/**/*.parquet").to_pandas(),
    "polars, lazily": lambda data: pl.scan_parquet(f"{data}/**/*.parquet").collect().to_pandas(),
    "duckdb": lambda data: duckdb.sql(f"from read_parquet('{data}/**/*.parquet')").df(),
    "datasets": of_datasets,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_the_folder_is_its_rows(data: str, reader: Callable[[str], pd.DataFrame]) -> None:
    table = reader(data)
    assert list(table.columns) == PREPARED_SCHEMA.names
    rows: list[dict[str, Any]] = table.sort_values("frame_id").to_dict("records")
    assert len(rows) == FRAMES
    for i, row in enumerate(rows):
        expected = prepared_row("s", i)
        assert {k: row[k] for k in ("frame_id", "image", "regions", "num_regions")} == {
            k: expected[k] for k in ("frame_id", "image", "regions", "num_regions")
        }
        assert list(row["intrinsics"]) == expected["intrinsics"]


def test_what_was_rejected_is_a_table_of_its_own(data: str) -> None:
    table = pd.read_parquet(f"{data}/{LAYOUT.rejected}")
    assert table.to_dict("records") == [
        {"frame_id": "s/9", "source": "x", "stage": "frames", "reason": "torn"}
    ]
