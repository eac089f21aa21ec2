"""A dataset from another one: the same frames, something about every row changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cpcdr.dataset import FORMAT, LAYOUT, layout_of, read_manifest
from cpcdr.prepare.index import dataset_hash
from cpcdr.prepare.parts import finish, publish, write_part
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.strict_json import write_json

Row = dict[str, Any]


def derive(
    data: Path, out: Path, change: Callable[[Row], Row], facts: dict[str, Any], desc: str
) -> dict[str, Any]:
    """Make dataset ``out`` from the rows of ``data``: it appears whole, or not at all.

    Args:
        out: the dataset folder to make; it must not exist.
        change: from a prepared row to the new one.
        facts: manifest entries replaced or added; must contain ``config_hash``.

    Returns:
        the manifest of ``out``.
    """
    manifest = read_manifest(data)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    with Progress(total=manifest["frames"], desc=desc, unit="frame") as bar:
        for path in sorted((data / "data").glob("*.parquet")):
            rows = pq.read_table(path).to_pylist()
            write_part(partial, [change(row) | {"reason": ""} for row in rows])
            bar.update(len(rows))
    index, _ = finish(partial)
    # Nothing was rejected here: the old ones stay.
    shutil.copy2(data / layout_of(data).rejected, partial / LAYOUT.rejected)
    new = manifest | {
        "hash": dataset_hash(facts["config_hash"], index["frame_id"]),
        "regions_per_frame": round(float(np.mean(index["num_regions"].to_numpy())), 2),
        **facts,
    }
    write_json(partial / LAYOUT.manifest, new | {"format": FORMAT})
    publish(partial, out)
    return new
