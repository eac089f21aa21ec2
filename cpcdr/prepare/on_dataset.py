"""Preparation as a step on your own Ray Dataset: images in, rows of a prepared dataset out.

Imports Ray: load it only where you use Ray.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from numpy.typing import NDArray

from cpcdr.dataset import PREPARED_SCHEMA
from cpcdr.depth.source import DepthSource
from cpcdr.depth.sources import open_depth, with_checkpoint
from cpcdr.frames.decode import encode_png, plain_image
from cpcdr.frames.frame import Frame, FrameOptions, FrameRef
from cpcdr.frames.intrinsics import Intrinsics, check_inside, given_or_assumed
from cpcdr.frames.resize import fit, picture_size
from cpcdr.prepare.draft import Draft, row_of
from cpcdr.prepare.stages import (
    TOGETHER,
    EstimateDepth,
    GroupRegions,
    refuse_blank,
    single_threaded,
)
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.errors import FrameError, InputError

ROWS_SCHEMA = pa.unify_schemas(
    [PREPARED_SCHEMA, pa.schema([("stage", pa.string()), ("reason", pa.string())])]
)
"""The columns of a prepared dataset; ``reason`` why a frame cannot be used, and at what stage."""


def prepare_images(
    images: ray.data.Dataset,
    depth: str = "street",
    regions: RegionConfig | None = None,
    options: FrameOptions | None = None,
    pixels: int = 288 * 512,
    column: str = "image",
    **resources: Any,
) -> ray.data.Dataset:
    """Disparity and coherent depth regions for the images of a Ray Dataset, lazily.

    Each row becomes one row, as ``cpcdr prepare`` writes it (`cpcdr.dataset.decode_sample` decodes
    it). A frame that cannot be used has a sentence in ``reason``, which is ``""`` in all others,
    and no image: ``rows.filter(lambda row: not row["reason"])`` drops it.

    Args:
        images: rows with an image in ``column``, as uint8 [H, W, 3] RGB or as the bytes of an image
            file, and with ``sequence`` and ``frame_index``, or with ``path``, which tells frames
            apart. If there is a column ``intrinsics``, it is fx, fy, cx, cy in pixels of the image.
        depth: as ``--depth`` of ``cpcdr prepare``; nothing checks it before the work begins, so
            look at it with ``cpcdr evaluate-depth`` first.
        regions: how regions are grouped.
        options: the camera where there is no column ``intrinsics``: its ``intrinsics`` or ``fov``.
        pixels: the most that a frame is prepared at; with fewer it keeps its size.
        resources: of ``Dataset.map_batches``: ``compute``, ``num_gpus``, ``num_cpus``,
            ``batch_size``.

    Raises:
        InputError: columns are missing, or there is no such source of depth.
    """
    names = images.columns() or []
    if column not in names or not ({"sequence", "frame_index"} <= {*names} or "path" in names):
        raise InputError(
            f"the Ray Dataset has the columns {', '.join(names)}: it needs '{column}', and "
            "'sequence' and 'frame_index', or 'path' (read_images(..., include_paths=True))."
        )
    source = open_depth(with_checkpoint(depth))
    step = PrepareImages(
        source, regions or RegionConfig(), options or FrameOptions(), pixels, column
    )
    most = os.cpu_count() or 1
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
    given: dict[str, Any] = {"batch_size": TOGETHER, "compute": pool} | resources
    return images.map_batches(_Actor, fn_constructor_args=(step,), batch_format="numpy", **given)


@dataclass(frozen=True)
class PrepareImages:
    """What an actor does to a batch of images; the arguments are those of `prepare_images`."""

    depth: DepthSource
    regions: RegionConfig = field(default_factory=RegionConfig)
    options: FrameOptions = field(default_factory=FrameOptions)
    pixels: int = 288 * 512
    column: str = "image"

    def __call__(self, batch: Mapping[str, Any]) -> pa.Table:
        number = len(batch[self.column])
        drafts = [self._draft({k: v[i] for k, v in batch.items()}) for i in range(number)]
        for stage in (EstimateDepth(self.depth), GroupRegions(self.regions)):
            drafts = stage(drafts)
        return pa.Table.from_pylist([row_of(draft) for draft in drafts], schema=ROWS_SCHEMA)

    def _draft(self, row: Mapping[str, Any]) -> Draft:
        draft = Draft(_ref(row), str(row.get("source", "ray.data")))
        try:
            frame = self._frame(row, draft)
            refuse_blank(frame)
        except FrameError as error:
            return draft.rejected(error)
        frame = fit(frame, picture_size(frame.image.shape, self.pixels))
        # An array was not encoded before it was known whether it is scaled.
        encoded = frame.encoded or encode_png(frame.image)
        return replace(draft, frame=replace(frame, encoded=encoded))

    def _frame(self, row: Mapping[str, Any], draft: Draft) -> Frame:
        name = draft.ref.path or draft.ref.frame_id
        given = row[self.column]
        encoded, image = plain_image(given, name) if isinstance(given, bytes) else (b"", given)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            raise FrameError(
                f"{name}: '{self.column}' is neither uint8 [H, W, 3] nor the bytes of an image "
                "file; convert it before."
            )
        height, width = image.shape[:2]
        camera = self._camera(row, (height, width), name)
        image = np.ascontiguousarray(image)
        return Frame(draft.ref, encoded, image, camera, draft.source)

    def _camera(self, row: Mapping[str, Any], size: tuple[int, int], name: str) -> Intrinsics:
        learned = None if self.options.intrinsics else getattr(self.depth, "camera", None)
        if "intrinsics" in row:
            camera: NDArray[np.float32] = np.asarray(row["intrinsics"], np.float32)
            if camera.shape != (4,):
                raise FrameError(f"{name}: its intrinsics are not fx, fy, cx, cy.")
        elif learned is not None:
            camera = learned.intrinsics(size)
        else:
            camera = given_or_assumed(self.options, size)
        check_inside(camera, size, name)
        return camera


class _Actor:
    """Ray Data makes one in each process."""

    def __init__(self, step: PrepareImages) -> None:
        self.step = step
        single_threaded()

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        return self.step(batch)


def _ref(row: Mapping[str, Any]) -> FrameRef:
    """Which frame a row is; a path makes a sequence of one frame, relative and without ``..``."""
    path = str(row.get("path", ""))
    if "sequence" in row and "frame_index" in row:
        return FrameRef(str(row["sequence"]).strip("/"), int(row["frame_index"]), path)
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    return FrameRef("/".join(parts), 0, path)
