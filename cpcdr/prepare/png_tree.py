"""The released code's layout: ``rgb/``, ``disp/`` and ``region/`` trees of PNG files, 16 bits deep.

Export writes one from a dataset. A tree is imported by preparing its images with its disparity and
its regions: ``prepare.py --frames images:TREE/rgb --depth precomputed:TREE --region-maps TREE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpcdr.config import write_atomic
from cpcdr.dataset import decode_png16, read_manifest
from cpcdr.depth.precomputed import tree_names
from cpcdr.errors import FrameError, InputError
from cpcdr.frames import Frame
from cpcdr.frames.decode import decode_image
from cpcdr.frames.resize import cover_and_crop
from cpcdr.progress import Progress


@dataclass(frozen=True)
class ExportConfig:
    """A prepared dataset as a tree of PNG files.

    Attributes:
        data: dataset folder made by prepare.py.
        out: folder for ``rgb/``, ``disp/`` and ``region/``; files that are there stay.
    """

    data: Path = Path("runs/dataset")
    out: Path = Path("runs/png")


def export_png(config: ExportConfig) -> dict[str, Any]:
    """Write the tree; files of an earlier, interrupted export are kept.

    Returns:
        ``out`` and the number of ``frames``.

    Raises:
        InputError: ``data`` is no dataset, or a row of it is damaged.
    """
    total = read_manifest(config.data)["frames"]
    with Progress(total=total, desc="export", unit="frame") as bar:
        for path in sorted((config.data / "data").glob("*.parquet")):
            columns = ["frame_id", "image", "disparity", "regions"]
            for batch in pq.ParquetFile(path).iter_batches(batch_size=16, columns=columns):
                for row in batch.to_pylist():
                    _export(row, config.out)
                    bar.update()
    return {"out": str(config.out), "frames": total}


def _export(row: dict[str, Any], out: Path) -> None:
    name = f"{row['frame_id']}.png"
    image = decode_image(row["image"], row["frame_id"])
    rgb = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    for tree, data in (("rgb", rgb), ("disp", row["disparity"]), ("region", row["regions"])):
        path = out / tree / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)


def read_region_map(root: Path, frame: Frame) -> NDArray[np.uint16]:
    """Regions of a frame from a tree, uint16 [H, W] of the frame's size, ids 0..R-1.

    Raises:
        FrameError: there is no such file, or it is no 16-bit PNG.
    """
    paths = [folder / name for name in tree_names(frame.ref) for folder in (root / "region", root)]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise FrameError(f"{paths[0]} is missing: give the regions of every frame.", "regions")
    stored = decode_png16(path.read_bytes())
    if stored is None:
        raise FrameError(f"{path} is not a 16-bit grey PNG: remake it.", "regions")
    ids = cover_and_crop(stored, frame.image.shape, cv2.INTER_NEAREST_EXACT)
    return np.unique(ids, return_inverse=True)[1].reshape(ids.shape).astype(np.uint16)


def check_region_maps(root: Path) -> Path:
    """The absolute folder of region maps.

    Raises:
        InputError: it does not exist.
    """
    if not root.is_dir():
        raise InputError(f"{root}: is not a folder; give the one that contains region/.")
    return root.absolute()
