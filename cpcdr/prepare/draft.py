"""A frame on its way to a row of the dataset: decoded within a process, encoded between two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpcdr.dataset import PREPARED_SCHEMA
from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.frames.row import REF_SCHEMA, frame_from_row, frame_row
from cpcdr.maps import Compression, decode_disparity, encode_disparity, encode_ids
from cpcdr.regions.graph import SuperpixelGraph
from cpcdr.runtime.errors import FrameError

Row = dict[str, Any]

FLOW_SCHEMA = pa.unify_schemas(
    [REF_SCHEMA, PREPARED_SCHEMA, pa.schema([("stage", pa.string()), ("reason", pa.string())])]
)
"""Rows between processes: references, with what is known of their frames so far."""


@dataclass(frozen=True, eq=False)
class Draft:
    """One frame and the results of the stages so far.

    Attributes:
        frame: with its pixels; None before it is read, and where it is rejected. Its disparity is
            the exact one if the source has it, then the estimated one.
        regions: uint16 [H, W], ids from 0.
        graph: that the regions were grouped from.
        stage: that rejected it.
        reason: why; "" of a good one.
    """

    ref: FrameRef
    source: str = ""
    frame: Frame | None = None
    regions: NDArray[np.uint16] | None = None
    graph: SuperpixelGraph | None = None
    stage: str = ""
    reason: str = ""

    def rejected(self, error: FrameError) -> Draft:
        """The same frame as one that cannot be used, without its pixels."""
        return Draft(self.ref, self.source, stage=error.stage, reason=str(error))


def draft_of(row: Row) -> Draft:
    """The draft of a row that an earlier process sent on; regions do not travel.

    Raises:
        FrameError: its image cannot be decoded.
    """
    ref = FrameRef(**{name: row[name] for name in REF_SCHEMA.names})
    draft = Draft(ref, row.get("source") or "", stage=row.get("stage") or "")
    draft = replace(draft, reason=row.get("reason") or "")
    if not row.get("image"):
        return draft
    size, stored = (int(row["height"]), int(row["width"])), row["disparity"]
    disparity = decode_disparity(stored, size) if stored else None
    return replace(draft, frame=replace(frame_from_row(row), ref=ref, disparity=disparity))


def row_of(draft: Draft, compression: Compression = "zstd") -> Row:
    """The row of `FLOW_SCHEMA` of a draft: every image of it encoded, once."""
    row = {name: getattr(draft.ref, name) for name in REF_SCHEMA.names}
    row |= {"frame_id": draft.ref.frame_id, "source": draft.source}
    row |= {"stage": draft.stage, "reason": draft.reason}
    if draft.frame is not None:
        row |= frame_row(draft.frame)
        if draft.frame.disparity is not None:
            row["disparity"] = encode_disparity(draft.frame.disparity, compression)
    if draft.regions is not None and draft.graph is not None:
        row |= {
            "regions": encode_ids(draft.regions.astype(np.uint16), compression),
            "num_regions": int(draft.regions.max()) + 1,
            "superpixels": encode_ids(draft.graph.superpixels.astype(np.uint16), compression),
            "edges": draft.graph.edges.reshape(-1).astype(np.int32),
            "edge_distance": draft.graph.distance.astype(np.float32),
        }
    return row
