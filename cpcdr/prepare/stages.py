"""The stages that Ray Data's actors run: tables of rows in, tables of rows out.

A frame that cannot be used keeps flowing with a ``reason`` and without pixels, so that the rows
of a table stay the same from the first stage to the last and each one ends in the dataset or
among the rejected.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa

from cpcdr.dataset import (
    PREPARED_SCHEMA,
    decode_png16,
    encode_disparity,
    encode_png16,
)
from cpcdr.depth.source import DepthSource
from cpcdr.frames import Frame, FrameRef, FrameSource
from cpcdr.frames.resize import fit
from cpcdr.frames.row import REF_SCHEMA, frame_from_row, frame_row
from cpcdr.prepare.compile_once import first_alone, if_nobody_else
from cpcdr.prepare.parts import write_part
from cpcdr.prepare.png_tree import read_region_map
from cpcdr.regions.config import RegionConfig
from cpcdr.regions.graph import superpixel_graph
from cpcdr.regions.grouping import regions_of_frame
from cpcdr.runtime.errors import FrameError

Row = dict[str, Any]

FLOW_SCHEMA = pa.unify_schemas(
    [REF_SCHEMA, PREPARED_SCHEMA, pa.schema([("stage", pa.string()), ("reason", pa.string())])]
)

_PIXELS = "pixels"
"""A row's image, decoded: for stages of the same actor, left behind where tables are made."""


def _single_threaded() -> None:
    """Actors run side by side, one a core: threads inside them only get in each other's way."""
    cv2.setNumThreads(1)
    if "torch" in sys.modules:  # most stages have no use for it, and its import takes seconds
        sys.modules["torch"].set_num_threads(1)


class Stage(Protocol):
    """A picklable step from rows to rows; `start` is called once, in the process that runs it."""

    def start(self) -> None:
        """Load what the step needs."""

    def __call__(self, rows: list[Row]) -> list[Row]:
        """As many rows as came in."""


class RunStages:
    """The actor: one or more stages, one after the other, on the rows of a table.

    Args:
        stages: what is done to the rows.
        run: a name that the actors of one run share.
    """

    def __init__(self, stages: Sequence[Stage], run: str) -> None:
        self.stages, self.run, self.compiled = stages, run, False
        for stage in stages:
            stage.start()
        _single_threaded()

    def __call__(self, table: pa.Table) -> pa.Table:
        with nullcontext() if self.compiled else first_alone(self.run):
            rows = table.to_pylist()
            for stage in self.stages:
                rows = stage(rows)
        self.compiled = True
        return pa.Table.from_pylist(rows, schema=FLOW_SCHEMA)


def _each_good(rows: list[Row], function: Callable[[Row], Row]) -> list[Row]:
    return [row if row.get("reason") else _guarded(row, function) for row in rows]


def _guarded(row: Row, function: Callable[[Row], Row]) -> Row:
    try:
        return function(row)
    except FrameError as error:
        return _rejected(row, error)


def _rejected(row: Row, error: FrameError) -> Row:
    kept = {name: row.get(name) for name in (*REF_SCHEMA.names, "frame_id", "source")}
    return kept | {"stage": error.stage, "reason": str(error)}


def frame_of_row(row: Row) -> Frame:
    """The frame of a flowing row; its exact disparity is there if the source knew it."""
    ref = FrameRef(**{name: row[name] for name in REF_SCHEMA.names})
    exact = decode_png16(row["disparity"]) if row["disparity"] else None
    disparity = None if exact is None else exact.astype(np.float32) / 65535.0
    return replace(frame_from_row(row, row.get(_PIXELS)), ref=ref, disparity=disparity)


@dataclass(frozen=True)
class ReadFrames:
    """Frame references to frame rows at the working size (0 0: each frame's own)."""

    source: FrameSource
    size: tuple[int, int]

    def start(self) -> None:
        """Nothing to load."""

    def __call__(self, rows: list[Row]) -> list[Row]:
        return [self._read(row) for row in rows]

    def _read(self, row: Row) -> Row:
        ref = FrameRef(**{name: row[name] for name in REF_SCHEMA.names})
        row = row | {"frame_id": ref.frame_id, "source": self.source.spec}
        try:
            frame = self.source.read(ref)
        except FrameError as error:
            return _rejected(row, error)
        if min(self.size) > 0:
            frame = fit(frame, self.size)
        exact = None if frame.disparity is None else encode_disparity(frame.disparity)
        return row | frame_row(frame) | {"disparity": exact, _PIXELS: frame.image}


@dataclass(frozen=True)
class EstimateDepth:
    """Adds ``disparity``; a network sees ``batch`` frames at once."""

    depth: DepthSource
    batch: int = 8

    def start(self) -> None:
        """The source loads its network when it is first called."""

    def __call__(self, rows: list[Row]) -> list[Row]:
        rows = list(rows)
        good = [i for i, row in enumerate(rows) if not row.get("reason")]
        for start in range(0, len(good), self.batch):
            chosen = good[start : start + self.batch]
            for i, row in zip(chosen, self._estimate([rows[i] for i in chosen]), strict=True):
                rows[i] = row
        return rows

    def _estimate(self, rows: list[Row]) -> list[Row]:
        """Several frames together; one by one if one of them is bad."""
        try:
            maps = self.depth([frame_of_row(row) for row in rows])
        except FrameError as error:
            if len(rows) == 1:
                return [_rejected(rows[0], error)]
            return [self._estimate([row])[0] for row in rows]
        return [
            row | {"disparity": encode_disparity(disparity)}
            for row, disparity in zip(rows, maps, strict=True)
        ]


@dataclass(frozen=True)
class GroupRegions:
    """Adds the regions and the graph that re-groups them.

    Attributes:
        config: thresholds.
        given: a folder with regions in 16-bit PNG files, ``{sequence}/{frame_index:08d}.png`` or
            ``{sequence}/{name of the image}.png``, that are taken as they are; None groups.
    """

    config: RegionConfig
    given: Path | None = None

    def start(self) -> None:
        """One process compiles the kernels while another one compiles those of the frames."""
        with if_nobody_else("regions") as mine:
            if mine:
                slope = np.linspace(0.02, 0.5, 32, dtype=np.float32)[:, None].repeat(64, axis=1)
                image = (255 * slope[..., None]).repeat(3, axis=2).astype(np.uint8)
                camera = np.array([50, 50, 32, 16], np.float32)
                regions_of_frame(image, slope, camera, self.config)

    def __call__(self, rows: list[Row]) -> list[Row]:
        return _each_good(rows, self._group)

    def _group(self, row: Row) -> Row:
        frame = frame_of_row(row)
        assert frame.disparity is not None, "depth comes before regions"
        arguments = (frame.image, frame.disparity, frame.intrinsics, self.config)
        if self.given is None:
            regions, graph = regions_of_frame(*arguments)
        else:
            graph = superpixel_graph(*arguments)
            regions = read_region_map(self.given, frame)
        return row | {
            "regions": encode_png16(regions.astype(np.uint16)),
            "num_regions": int(regions.max()) + 1,
            "superpixels": encode_png16(graph.superpixels.astype(np.uint16)),
            "edges": graph.edges.reshape(-1).astype(np.int32),
            "edge_distance": graph.distance.astype(np.float32),
        }


@dataclass(frozen=True)
class WriteParts:
    """Writes the rows as one part file and passes on only which frames they were."""

    folder: Path

    def start(self) -> None:
        """Nothing to load."""

    def __call__(self, rows: list[Row]) -> list[Row]:
        write_part(self.folder, rows)
        names = ("frame_id", "stage", "reason")
        return [{name: row.get(name) for name in names} for row in rows]
