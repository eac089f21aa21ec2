"""A prepared dataset as trees of PNG files: rgb/, disp/ and region/.

The layout is that of the released code.

Example:
  cpcdr export-png --data runs/dataset --out runs/png
"""

from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq

from cpcdr.dataset import decode_sample, read_manifest
from cpcdr.maps import disparity_png, encode_png16
from cpcdr.prepare.config import ExportPngConfig
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.hold import hold
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.storage import file_inside


def export_png(config: ExportPngConfig) -> dict[str, Any]:
    """Write the tree; files of an earlier, interrupted export are kept.

    Returns:
        ``out`` and the number of ``frames``.

    Raises:
        InputError: ``data`` is no dataset, or a row of it is damaged.
    """
    total = read_manifest(config.data)["frames"]
    with hold(config.out), Progress(total=total, desc="export", unit="frame") as bar:
        for path in sorted((config.data / "data").glob("*.parquet")):
            columns = ["frame_id", "image", "disparity", "regions"]
            for batch in pq.ParquetFile(path).iter_batches(batch_size=16, columns=columns):
                for row in batch.to_pylist():
                    _export(row, config.out)
                    bar.update()
    trees = ["--frames", f"images:{config.out / 'rgb'}", "--depth", f"precomputed:{config.out}"]
    end_with(
        {"trees": " ".join(str(config.out / name) for name in ("rgb", "disp", "region"))},
        ["prepare", *trees, "--region-maps", config.out, "--out", "runs/again"],
    )
    return {"out": str(config.out), "frames": total}


def _export(row: dict[str, Any], out: Path) -> None:
    name = f"{row['frame_id']}.png"
    sample = decode_sample(row)
    rgb = cv2.imencode(".png", sample.image[..., ::-1])[1].tobytes()
    disparity, regions = disparity_png(sample.disparity), encode_png16(sample.regions)
    for tree, data in (("rgb", rgb), ("disp", disparity), ("region", regions)):
        path = file_inside(out / tree, name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
