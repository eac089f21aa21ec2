"""The stages of preparation, and the actor that runs them on the frames of a table.

A frame that cannot be used keeps flowing with a ``reason`` and without pixels, so that the rows
of a table stay the same from the first stage to the last and each one ends in the dataset or
among the rejected.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pyarrow as pa

from cpcdr.depth.source import DepthSource, estimate
from cpcdr.frames import Frame, FrameSource
from cpcdr.frames.resize import fit
from cpcdr.maps import Compression, stored_disparity
from cpcdr.prepare.draft import FLOW_SCHEMA, Draft, Row, draft_of, row_of
from cpcdr.prepare.parts import write_part
from cpcdr.prepare.png_tree import read_region_map
from cpcdr.regions.config import RegionConfig
from cpcdr.regions.graph import superpixel_graph
from cpcdr.regions.grouping import regions_of_frame
from cpcdr.runtime.errors import FrameError

TOGETHER = 8
"""Frames per batch of an actor: the depth network's batch size on a GPU, and the number held
decoded."""
_LEAST_CONTRAST = 8
"""Grey levels between the darkest and the brightest value of a frame."""


class Stage(Protocol):
    """A picklable step; it loads what it needs when it is first called."""

    def __call__(self, drafts: list[Draft]) -> list[Draft]:
        """As many drafts as came in, in their order; rejected ones pass through."""


class RunStages:
    """The actor: one or more stages, one after the other, on the frames of a table.

    Args:
        parts: the folder where the rows of each table become one part file; only which frames they
            were is passed on then. None passes the rows on.
        compression: of the maps in the rows.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        parts: Path | None = None,
        compression: Compression = "zstd",
    ) -> None:
        self.stages, self.parts, self.compression = stages, parts, compression
        single_threaded()

    def __call__(self, table: pa.Table) -> pa.Table:
        rows: list[Row] = []
        for start in range(0, table.num_rows, TOGETHER):
            drafts = self._run(table.slice(start, TOGETHER).to_pylist())
            rows += [row_of(draft, self.compression) for draft in drafts]
        if self.parts is not None:
            write_part(self.parts, rows)
            rows = [{name: row[name] for name in ("frame_id", "stage", "reason")} for row in rows]
        return pa.Table.from_pylist(rows, schema=FLOW_SCHEMA)

    def _run(self, rows: list[Row]) -> list[Draft]:
        drafts = [draft_of(row) for row in rows]
        for stage in self.stages:
            drafts = stage(drafts)
        return drafts


def single_threaded() -> None:
    """Actors run side by side, one a core: threads inside them only get in each other's way."""
    cv2.setNumThreads(1)
    if "torch" in sys.modules:  # most stages have no use for it, and its import takes seconds
        sys.modules["torch"].set_num_threads(1)


def refuse_blank(frame: Frame) -> None:
    """Refuse a frame that shows nothing: a covered lens, or a decoder that fails in silence.

    Raises:
        FrameError: all its pixels are nearly of one colour.
    """
    if int(frame.image.max()) - int(frame.image.min()) < _LEAST_CONTRAST:
        raise FrameError(
            f"{frame.ref.path or frame.ref.frame_id} has no contrast (frame "
            f"{frame.ref.frame_index}): its pixels are all of one colour; look whether a player "
            "shows more, and convert the recording if so."
        )


@dataclass(frozen=True)
class ReadFrames:
    """References to frames at the working size (0 0: each frame's own)."""

    source: FrameSource
    size: tuple[int, int]

    def __call__(self, drafts: list[Draft]) -> list[Draft]:
        return [self._read(replace(draft, source=self.source.spec)) for draft in drafts]

    def _read(self, draft: Draft) -> Draft:
        try:
            frame = self.source.read(draft.ref)
            refuse_blank(frame)
        except FrameError as error:
            return draft.rejected(error)
        frame = fit(frame, self.size)
        exact = None if frame.disparity is None else stored_disparity(frame.disparity)
        # As between processes: labels and poses are not part of a dataset.
        frame = replace(frame, ref=draft.ref, disparity=exact, labels=None, pose=None)
        return replace(draft, frame=frame, source=frame.source)


@dataclass(frozen=True)
class EstimateDepth:
    """Frames with the disparity of a source."""

    depth: DepthSource

    def __call__(self, drafts: list[Draft]) -> list[Draft]:
        good = [(i, draft.frame) for i, draft in enumerate(drafts) if draft.frame is not None]
        drafts = list(drafts)
        results = estimate(self.depth, [frame for _, frame in good])
        for (i, frame), result in zip(good, results, strict=True):
            if isinstance(result, FrameError):
                drafts[i] = drafts[i].rejected(result)
            else:
                frame = replace(frame, disparity=stored_disparity(result))
                drafts[i] = replace(drafts[i], frame=frame)
        return drafts


@dataclass(frozen=True)
class GroupRegions:
    """Adds the regions and the graph that re-groups them.

    Attributes:
        given: a folder with regions in 16-bit PNG files, ``{sequence}/{frame_index:08d}.png`` or
            ``{sequence}/{name of the image}.png``, that are taken as they are; None groups.
    """

    config: RegionConfig
    given: Path | None = None

    def __call__(self, drafts: list[Draft]) -> list[Draft]:
        return [d if d.frame is None else self._group(d, d.frame) for d in drafts]

    def _group(self, draft: Draft, frame: Frame) -> Draft:
        assert frame.disparity is not None, "depth comes before regions"
        arguments = (frame.image, frame.disparity, frame.intrinsics, self.config)
        try:
            if self.given is None:
                regions, graph = regions_of_frame(*arguments)
            else:
                graph = superpixel_graph(*arguments)
                regions = read_region_map(self.given, frame)
        except FrameError as error:
            return draft.rejected(error)
        return replace(draft, regions=regions.astype(np.uint16), graph=graph)
