"""Figures of an evaluation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cpcdr.evaluate.matching import Match, scores
from cpcdr.frames import Frame, Protocol
from cpcdr.runtime.progress import phase
from cpcdr.visualize.pictures import Image, colour_labels, contact_sheet, region_colours
from cpcdr.visualize.plots import confusion_figure, per_class_bars


@phase("drawing predictions")
def prediction_sheet(
    frames: Sequence[Frame],
    clusters: Sequence[NDArray[np.int64]],
    protocol: Protocol | None,
    match: Match | None,
) -> Image:
    """Frame, prediction and labels side by side, or frame and clusters int64 [H, W]."""
    rows = []
    for frame, ids in zip(frames, clusters, strict=True):
        if protocol is None or match is None:
            rows.append([frame.image, region_colours(int(ids.max()) + 1)[ids]])
            continue
        predicted = colour_labels(match.labels(ids), protocol.colours)
        row = [frame.image, predicted]
        if frame.labels is not None:
            row.append(colour_labels(frame.labels, protocol.colours))
        rows.append(row)
    titles = ["frame", "prediction", "labels"] if protocol else ["frame", "clusters"]
    return contact_sheet(rows, titles[: max(map(len, rows))])


@phase("drawing scores")
def score_figures(folded: NDArray[np.int64], protocol: Protocol) -> dict[str, Image]:
    """The confusion table int64 [K+1, K] of `Match.fold` and the bars of IoU, by figure name."""
    score = scores(folded)
    title = f"{protocol.name}: mIoU {100 * score.miou:.1f}"
    return {
        "confusion": confusion_figure(folded, protocol.classes, title),
        "per_class_iou": per_class_bars(
            score.per_class_iou, protocol.classes, protocol.colours, title
        ),
    }
