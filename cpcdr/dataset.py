"""Prepared samples: the Parquet contract, random access to rows, and the order of an epoch.

A dataset folder (or ``s3://`` address) holds ``manifest.json``, ``frames.parquet`` (one line a
frame: where its row is), ``rejected.parquet`` and ``data/*.parquet``. It is published by one
rename, so a folder that has a manifest is whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpcdr.frames.decode import decode_image, too_large
from cpcdr.frames.video import VIDEO_SUFFIXES
from cpcdr.runtime.errors import InputError, first_line
from cpcdr.runtime.storage import location, open_storage, read_file
from cpcdr.runtime.strict_json import parse_object

PREPARED_SCHEMA = pa.schema(
    [
        ("sequence", pa.string()),
        ("frame_index", pa.int32()),
        ("frame_id", pa.string()),
        ("image", pa.binary()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("intrinsics", pa.list_(pa.float32())),
        ("source", pa.string()),
        ("disparity", pa.binary()),
        ("regions", pa.binary()),
        ("num_regions", pa.int32()),
        ("superpixels", pa.binary()),
        ("edges", pa.list_(pa.int32())),
        ("edge_distance", pa.list_(pa.float32())),
    ]
)
REJECTED_SCHEMA = pa.schema(dict.fromkeys(("frame_id", "source", "stage", "reason"), pa.string()))
INDEX_SCHEMA = pa.schema(
    [
        ("frame_id", pa.string()),
        ("part", pa.string()),
        ("row", pa.int32()),
        ("num_regions", pa.int32()),
    ]
)
FORMAT = 1
"""Of dataset folders; a larger one is refused."""
_MANIFEST: dict[str, Any] = {
    "hash": str,
    "config_hash": str,
    "config": dict,
    "frames": int,
    "rejected": int,
    "size": list,
    "regions_per_frame": int | float,
    "source": str,
    "depth": str,
}
_MANIFEST_CONFIG: dict[str, Any] = {"frames": str, "options": dict, "regions": dict, "size": list}
ROWS_PER_GROUP = 4
"""Rows that are read together: few, because an item takes its frames from the whole dataset."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One prepared frame, decoded.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        disparity: float32 [H, W] in (0, 1], 0 = invalid.
        regions: uint16 [H, W], ids 0..num_regions-1.
    """

    frame_id: str
    image: NDArray[np.uint8]
    disparity: NDArray[np.float32]
    regions: NDArray[np.uint16]


class PreparedDataset:
    """Random access to the samples of a dataset folder, in the order of their frame ids.

    Raises:
        InputError: the folder is missing, unfinished or damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = location(folder)
        self._system, self._root = open_storage(folder)
        self.manifest = read_manifest(folder)
        index = read_table(folder, "frames.parquet", INDEX_SCHEMA).sort_by("frame_id")
        self.frame_ids: list[str] = index["frame_id"].to_pylist()
        self._part: list[str] = index["part"].to_pylist()
        self._row: NDArray[np.int32] = index["row"].to_numpy()

    def __len__(self) -> int:
        return len(self.frame_ids)

    def rows(self, indices: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """The given columns of the given frames, in the order asked for."""
        result: list[dict[str, Any]] = [{} for _ in indices]
        wanted: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for at, index in enumerate(indices):
            group, offset = divmod(int(self._row[index]), ROWS_PER_GROUP)
            wanted.setdefault((self._part[index], group), []).append((at, offset))
        for (part, group), places in sorted(wanted.items()):
            path = f"{self._root}/data/{part}"
            try:
                with pq.ParquetFile(
                    path, filesystem=self._system, page_checksum_verification=True
                ) as file:
                    table = file.read_row_group(group, columns=list(columns), use_threads=False)
                for at, offset in places:
                    result[at] = table.slice(offset, 1).to_pylist()[0]
            except (OSError, pa.ArrowException, ValueError, IndexError) as error:
                raise InputError(
                    f"{path}: is damaged ({first_line(error)}); run the cpcdr prepare command that "
                    f"made {self.folder} again, which redoes just this part."
                ) from error
        return result

    @property
    def parts(self) -> list[str]:
        """Names of the part files, sorted."""
        return sorted(set(self._part))

    def samples(self, indices: Sequence[int]) -> list[Sample]:
        """The given frames, decoded."""
        columns = ["frame_id", "image", "disparity", "regions"]
        return [decode_sample(row) for row in self.rows(indices, columns)]


def decode_sample(row: dict[str, Any]) -> Sample:
    """Decode the images of a prepared row.

    Raises:
        InputError: one of them is no image, or their sizes differ.
    """
    disparity, regions = decode_disparity(row["disparity"]), decode_png16(row["regions"])
    if disparity is None or regions is None:
        raise InputError(
            f"{row['frame_id']}: its row holds a damaged image; make the dataset again."
        )
    image = decode_image(row["image"], row["frame_id"])
    if not image.shape[:2] == disparity.shape == regions.shape:
        raise InputError(
            f"{row['frame_id']}: image, disparity and regions differ in size; "
            "make the dataset again."
        )
    return Sample(row["frame_id"], image, disparity, regions)


def encode_png16(values: NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG; the lightest compression, several times faster and little larger.

    Matches are looked for in the pixel before only: quicker, and smaller on maps of regions.
    """
    runs = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 1, *runs])[1].tobytes()


def decode_png16(data: bytes) -> NDArray[np.uint16] | None:
    """The inverse of `encode_png16`; None if the bytes are not such an image."""
    if not data or too_large(data):
        return None
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 2:
        return None
    return values.astype(np.uint16, copy=False)


def encode_disparity(disparity: NDArray[np.float32]) -> bytes:
    """Disparity in (0, 1] (0 or not finite = invalid) as PNG of value * 65535."""
    return encode_png16(_levels(disparity))


def decode_disparity(data: bytes) -> NDArray[np.float32] | None:
    """The inverse of `encode_disparity`, as `stored_disparity`; None if it is not such an image."""
    levels = decode_png16(data)
    return None if levels is None else levels.astype(np.float32) / 65535.0


def stored_disparity(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a reader of the stored disparity gets: its nearest of 65535 levels, 0 = invalid."""
    return _levels(disparity).astype(np.float32) / 65535.0


def _levels(disparity: NDArray[np.float32]) -> NDArray[np.uint16]:
    valid = np.isfinite(disparity) & (disparity > 0)
    scaled = np.clip(np.rint(np.where(valid, disparity, 0) * 65535), 0, 65535)
    return np.where(valid, np.maximum(scaled, 1), 0).astype(np.uint16)


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of a dataset.

    Raises:
        InputError: there is none, or it is not ours.
    """
    path = f"{location(folder)}/manifest.json"
    content = read_file(folder, "manifest.json")
    if content is None:
        raise InputError(f"{folder}: is not a prepared dataset; {_remedy(Path(folder))}.")
    try:
        manifest = parse_object(content)
    except ValueError as error:
        raise _damaged_manifest(path, str(error)) from error
    version = manifest.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise InputError(
            f"{path}: has format {version}, and this version of cpcdr reads up to {FORMAT}; update "
            "cpcdr."
        )
    _check_kinds(manifest, _MANIFEST, path)
    _check_kinds(manifest["config"], _MANIFEST_CONFIG, path)
    if not all(isinstance(n, int) for n in manifest["size"]) or len(manifest["size"]) != 2:
        raise _damaged_manifest(path, "size is not two numbers")
    return manifest


def _remedy(folder: Path) -> str:
    """How to come by a dataset where there is none; what is there is never written over."""
    if Path(f"{folder}.partial").is_dir():
        return "its preparation is unfinished: run the same cpcdr prepare command again"
    if folder.is_file() and folder.suffix.lower() in VIDEO_SUFFIXES:
        frames = f"--frames video:{folder} --out runs/{folder.stem}"
        return f"make one of this video with cpcdr prepare {frames}"
    if folder.exists():
        return "give the folder that cpcdr prepare wrote, its --out"
    return f"make one with cpcdr prepare --out {folder}"


def _check_kinds(entries: dict[str, Any], kinds: dict[str, Any], path: str) -> None:
    for key, kind in kinds.items():
        value = entries.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise _damaged_manifest(path, f"{key} is {str(value)[:40]!r}")


def _damaged_manifest(path: str | Path, reason: str) -> InputError:
    """The sentence on a manifest that cannot be used."""
    return InputError(f"{path}: is damaged ({reason}); make the dataset again with cpcdr prepare.")


def read_table(folder: Path | str, name: str, schema: pa.Schema) -> pa.Table:
    """A small Parquet file of a dataset, with the given columns.

    Raises:
        InputError: it is missing, damaged or has other columns.
    """
    system, root = open_storage(folder)
    try:
        return pq.read_table(
            f"{root}/{name}",
            columns=schema.names,
            filesystem=system,
            page_checksum_verification=True,
        )
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{location(folder)}/{name}: cannot be read; run the cpcdr prepare command that made "
            "the dataset again, which redoes just this file."
        ) from error


def epoch_items(frames: int, per_item: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Which frames make which item of M frames in an epoch: a function of (seed, epoch) alone.

    The dataset is cut into ``per_item`` equal stretches, at a place that changes with the epoch,
    and each item takes one frame of every stretch: its frames are far apart in the recordings.

    Returns:
        int64 [frames // per_item, per_item], no frame twice.

    Raises:
        InputError: there are fewer frames than one item needs.
    """
    if frames < per_item:
        raise InputError(
            f"the dataset has {frames} frames, but a mosaic needs {per_item}; "
            "prepare more frames, or lower --frames-per-item."
        )
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    items = frames // per_item
    start = int(generator.integers(frames))
    stretches = (start + np.arange(items * per_item)).reshape(per_item, items) % frames
    return np.stack([generator.permutation(stretch) for stretch in stretches], axis=1)
