"""Prepared samples: the Parquet contract, and random access to rows.

A dataset folder (or ``s3://`` address) holds its rows in ``data/*.parquet``, and what is about them
in ``__cpcdr__``: a manifest, an index (one line a frame: where its row is), the same by part for
those who read rows by number, and the rejected frames. It is published by one rename, so a folder
that has a manifest is whole.

pyarrow, pandas and Hugging Face skip names that start with two underscores, DuckDB and Polars glob
for ``.parquet``: to all of them the folder is its rows.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpcdr.frames.decode import decode_image
from cpcdr.frames.video import VIDEO_SUFFIXES
from cpcdr.maps import decode_ids, decode_levels, disparity_of
from cpcdr.part_index import PART_INDEX_SCHEMA, PartIndex, index_of_rows, index_of_table
from cpcdr.runtime.errors import InputError, first_line
from cpcdr.runtime.storage import has_file, location, open_storage, read_file
from cpcdr.runtime.strict_json import parse_object


def _described(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": description})


_IDS = "Zstandard or LZ4 frame of uint16 [height, width]"
PREPARED_SCHEMA = pa.schema(
    [
        _described("sequence", pa.string(), "the recording or folder that the frame is from"),
        _described("frame_index", pa.int32(), "its place there; gaps where frames are missing"),
        _described("frame_id", pa.string(), "{sequence}/{frame_index:08d}, unique and sortable"),
        _described("image", pa.binary(), "the image file, JPEG or PNG"),
        _described("height", pa.int32(), "of the image, in pixels"),
        _described("width", pa.int32(), "of the image, in pixels"),
        _described("intrinsics", pa.list_(pa.float32()), "fx, fy, cx, cy in pixels of the image"),
        _described("source", pa.string(), "the spec that the frame came from"),
        _described(
            "disparity",
            pa.binary(),
            "Zstandard or LZ4 frame of uint8 [2, height, width]: high and low bytes of the "
            "differences of rows, modulo 65536; their sums / 65535 are disparities, 0 = invalid",
        ),
        _described("regions", pa.binary(), f"{_IDS}: ids 0..num_regions-1"),
        _described("num_regions", pa.int32(), "number of regions"),
        _described("superpixels", pa.binary(), f"{_IDS}: ids of the cached graph's superpixels"),
        _described("edges", pa.list_(pa.int32()), "pairs of neighbouring superpixels, flat"),
        _described("edge_distance", pa.list_(pa.float32()), "distance of each pair"),
    ]
)
"""Columns of the data; their descriptions are written into the files."""

REJECTED_SCHEMA = pa.schema(dict.fromkeys(("frame_id", "source", "stage", "reason"), pa.string()))
INDEX_SCHEMA = pa.schema(
    [
        ("frame_id", pa.string()),
        ("part", pa.string()),
        ("row", pa.int32()),
        ("num_regions", pa.int32()),
    ]
)
FORMAT = 4
"""Of dataset folders; a larger one is refused."""
_INDEXED_BY_PART = 4
"""The first format with an index by part."""


@dataclass(frozen=True)
class Layout:
    """Names, in the folder of a dataset, of the files that are about its rows."""

    manifest: str = "__cpcdr__/manifest.json"
    index: str = "__cpcdr__/frames.pq"
    rejected: str = "__cpcdr__/rejected.pq"
    settings: str = "__cpcdr__/config.yaml"
    parts: str = "__cpcdr__/parts.pq"


LAYOUT = Layout()
LAYOUT_BEFORE_3 = Layout("manifest.json", "frames.parquet", "rejected.parquet", "config.yaml")
"""Of formats 1 and 2, which are read; they have no index by part."""

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
ROWS_PER_GROUP = 1
"""Rows that are read together: an item takes its frames from the whole dataset."""
_FOOTERS = 256
"""Footers of part files that are kept, 0.9 KB a row, which would else be read with every sample."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One prepared frame, decoded.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        levels: uint16 [H, W] disparity times 65535, 0 = invalid.
        regions: uint16 [H, W], ids 0..num_regions-1.
    """

    frame_id: str
    image: NDArray[np.uint8]
    levels: NDArray[np.uint16]
    regions: NDArray[np.uint16]

    @property
    def disparity(self) -> NDArray[np.float32]:
        """float32 [H, W] in (0, 1], 0 = invalid."""
        return disparity_of(self.levels)


class PreparedDataset:
    """Random access to the samples of a dataset folder, in the order of their frame ids.

    Raises:
        InputError: the folder is missing, unfinished or damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = location(folder)
        self._system, self._root = open_storage(folder)
        self.manifest = read_manifest(folder)
        self.footer = functools.lru_cache(_FOOTERS)(self._footer)
        self._index = self._by_part() if indexed_by_part(self.manifest) else self._by_frame()

    def _by_part(self) -> PartIndex:
        table = read_table(self.folder, LAYOUT.parts, PART_INDEX_SCHEMA, ["part"])
        try:
            index = index_of_table(table)
            if len(index) != self.manifest["frames"]:
                raise ValueError(f"{len(index)} frames for {self.manifest['frames']}")
        except ValueError as error:
            raise _unreadable(f"{self.folder}/{LAYOUT.parts}") from error
        return index

    def _by_frame(self) -> PartIndex:
        """The same from the index by frame, of datasets that have no other."""
        table = self._frames(["frame_id", "part", "row"])
        parts = table["part"].unify_dictionaries().combine_chunks()
        return index_of_rows(parts, table["row"].to_numpy())

    def _frames(self, columns: Sequence[str]) -> pa.Table:
        """Columns of the index by frame, in the order of the frame ids."""
        schema = pa.schema([INDEX_SCHEMA.field(name) for name in columns])
        index = read_table(self.folder, layout_of(self.folder).index, schema, ["part"])
        ids = index["frame_id"]
        if len(ids) > 1 and not pc.all(pc.less(ids[:-1], ids[1:])).as_py():
            index = index.sort_by("frame_id")
        return index

    def __len__(self) -> int:
        return len(self._index)

    @property
    def parts(self) -> list[str]:
        """Names of the part files."""
        names: list[str] = self._index.names.to_pylist()
        return names

    @property
    def frame_ids(self) -> list[str]:
        """All frame ids, in order; the first call reads them."""
        ids: list[str] = self._ids.to_pylist()
        return ids

    @functools.cached_property
    def _ids(self) -> pa.ChunkedArray:
        return self._frames(["frame_id"])["frame_id"]

    def rows(self, indices: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """The given columns of the given frames, in the order asked for."""
        wanted: dict[str, set[int]] = {}
        places = self._index.places(indices)
        for part, row in places:
            wanted.setdefault(part, set()).add(row)
        found = {part: self._rows_of(part, wanted[part], columns) for part in sorted(wanted)}
        return [found[part][row] for part, row in places]

    def _rows_of(
        self, part: str, numbers: set[int], columns: Sequence[str]
    ) -> dict[int, dict[str, Any]]:
        """The given rows of a part file, by number."""
        path = f"{self._root}/data/{part}"
        try:
            footer = self.footer(part)
            size = footer.row_group(0).num_rows
            with pq.ParquetFile(
                path, metadata=footer, filesystem=self._system, page_checksum_verification=True
            ) as file:
                groups = {
                    group: file.read_row_group(group, columns=list(columns), use_threads=False)
                    for group in sorted({number // size for number in numbers})
                }
            return {
                number: groups[number // size].slice(number % size, 1).to_pylist()[0]
                for number in numbers
            }
        except (OSError, pa.ArrowException, ValueError, IndexError) as error:
            raise InputError(
                f"{path}: is damaged ({first_line(error)}); run the cpcdr prepare command that "
                f"made {self.folder} again, which redoes just this part."
            ) from error

    def _footer(self, part: str) -> pq.FileMetaData:
        with self._system.open_input_file(f"{self._root}/data/{part}") as file:
            return pq.read_metadata(file)

    def samples(self, indices: Sequence[int]) -> list[Sample]:
        """The given frames, decoded."""
        columns = ["frame_id", "image", "disparity", "regions"]
        return [decode_sample(row) for row in self.rows(indices, columns)]


def opened(folder: Path | str) -> PreparedDataset:
    """A dataset that this process has open already, or opens now: once for all epochs."""
    return _opened(location(folder), read_manifest(folder)["hash"])


@functools.lru_cache(maxsize=2)
def _opened(folder: str, digest: str) -> PreparedDataset:
    return PreparedDataset(folder)


def decode_sample(row: dict[str, Any]) -> Sample:
    """Decode the images of a prepared row.

    Raises:
        InputError: one of them is damaged, or their sizes differ.
    """
    image = decode_image(row["image"], row["frame_id"])
    size = (image.shape[0], image.shape[1])
    levels = decode_levels(row["disparity"], size)
    regions = decode_ids(row["regions"], size)
    if levels is None or regions is None:
        raise InputError(
            f"{row['frame_id']}: its disparity or regions are damaged, or not of the image's size; "
            "make the dataset again."
        )
    return Sample(row["frame_id"], image, levels, regions)


def layout_of(folder: Path | str) -> Layout:
    """Where a finished dataset keeps what is about its rows."""
    there = has_file(folder, LAYOUT.manifest)
    return LAYOUT if there else LAYOUT_BEFORE_3


def indexed_by_part(manifest: dict[str, Any]) -> bool:
    """Whether a dataset of this manifest must have an index by part."""
    return manifest.get("format", 0) >= _INDEXED_BY_PART


def manifest_file(folder: Path) -> Path:
    """The manifest's path, for those who are told to read it."""
    return folder / layout_of(folder).manifest


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of a dataset.

    Raises:
        InputError: there is none, or it is not ours.
    """
    name = layout_of(folder).manifest
    path, content = f"{location(folder)}/{name}", read_file(folder, name)
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


def read_table(
    folder: Path | str, name: str, schema: pa.Schema, encoded: Sequence[str] = ()
) -> pa.Table:
    """A small Parquet file of a dataset, with the given columns, some as dictionaries.

    Raises:
        InputError: it is missing, damaged or has other columns.
    """
    system, root = open_storage(folder)
    try:
        return pq.read_table(
            f"{root}/{name}",
            columns=schema.names,
            read_dictionary=list(encoded),
            filesystem=system,
            page_checksum_verification=True,
        )
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(f"{location(folder)}/{name}") from error


def _unreadable(path: str) -> InputError:
    """The sentence on a table about rows that cannot be used."""
    return InputError(
        f"{path}: cannot be read; run the cpcdr prepare command that made the dataset again, which "
        "redoes just this file."
    )
