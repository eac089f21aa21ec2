"""Pictures of a study: scores with intervals, features side by side, the context test."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cpcdr.ablate.context import ContextTest
from cpcdr.ablate.labelled import LabelledFrames
from cpcdr.ablate.report import METRICS, REFERENCES, Metric, Summary
from cpcdr.frames.pick import spread
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.runtime.device import to_unit_float
from cpcdr.visualize.pictures import Image, colour_features, colour_labels, contact_sheet
from cpcdr.visualize.plots import new_figure, rendered

_COLOURS = {"full": "#3b6ea8", "no-copy-paste": "#c46a3a"}
_OTHER, _INK = "#9aa5b1", "#222222"


def score_bars(summary: Summary, title: str) -> Image:
    """A panel for each metric: bars of the means, intervals, and a dot for every seed."""
    shown = [m for m in METRICS if any(m.key in metrics for metrics in summary.values())]
    figure = new_figure(0.4 + 4.2 * len(shown), 0.42 * len(summary) + 1.6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, metric in zip(grid, shown, strict=True):
        _bars(axes, summary, metric)
    grid[0].set_yticks(range(len(summary)), list(summary))
    grid[0].invert_yaxis()
    return rendered(figure)


def _bars(axes: Any, summary: Summary, metric: Metric) -> None:
    none: dict[str, Any] = {"values": {}}
    for row, (name, metrics) in enumerate(summary.items()):
        estimate = metrics.get(metric.key)
        if not estimate or estimate["mean"] is None:
            continue
        mean = metric.factor * estimate["mean"]
        axes.barh(row, mean, color=_COLOURS.get(name, _OTHER), height=0.64)
        if estimate["low"] is not None:
            ends = [metric.factor * estimate[end] for end in ("low", "high")]
            axes.plot(ends, [row, row], color=_INK, linewidth=1.4, marker="|", markersize=7)
        values = [metric.factor * v for v in estimate["values"].values()]
        axes.plot(values, [row] * len(values), "o", color="white", mec=_INK, mew=0.8, ms=4)
    for name in REFERENCES:
        mean = summary.get(name, {}).get(metric.key, {}).get("mean")
        if mean is not None:
            axes.axvline(metric.factor * mean, color=_COLOURS[name], linewidth=0.8, linestyle=":")
    axes.set_title(metric.title, loc="left", fontsize=9)
    values = [v for e in summary.values() for v in e.get(metric.key, none)["values"].values()]
    # Clip the long intervals of few seeds instead of squeezing all bars.
    axes.set_xlim(0, min(axes.get_xlim()[1], 1.6 * metric.factor * max(values)))
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


@torch.inference_mode()
def features_of(network: SegmentationNetwork, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """L2-normalised features [N, C, h, w] of images uint8 [N, H, W, 3]."""
    pixels = to_unit_float(torch.from_numpy(np.array(images)))
    features = network.cpu()(pixels)
    return functional.normalize(features, dim=1).numpy()


def feature_sheet(
    networks: Mapping[str, SegmentationNetwork], frames: LabelledFrames, columns: int = 5
) -> Image:
    """Frames, labels, and each network's features: their first three components as RGB.

    One PCA per network over the frames shown: within a row, equal colours are equal features;
    between rows, only the shapes are comparable.
    """
    indices = spread(len(frames), columns)
    images = [np.asarray(frames.images[i]) for i in indices]
    colours = frames.protocol.colours
    rows: list[Sequence[Image]] = [
        images,
        [colour_labels(np.asarray(frames.labels[i]), colours) for i in indices],
    ]
    for network in networks.values():
        features = colour_features(features_of(network, np.stack(images)))
        rows.append([_enlarged(picture, images[0].shape) for picture in features])
    titles = ["frames", f"labels ({frames.protocol.name})", *networks]
    return contact_sheet(rows, row_titles=titles, height=130)


def context_sheet(
    networks: Mapping[str, SegmentationNetwork],
    scores: Mapping[str, float | None],
    test: ContextTest,
    columns: int = 5,
) -> Image:
    """The first object in several scenes, and each network's features there, outlined."""
    indices = np.flatnonzero(test.objects == test.objects[0])[:columns]
    masks = test.masks[indices]
    images = np.array(test.images[indices])
    rows: list[Sequence[Image]] = [[_outlined(i, m) for i, m in zip(images, masks, strict=True)]]
    titles = ["the same object in several scenes"]
    for name, network in networks.items():
        features = colour_features(features_of(network, images))
        pictures = [_enlarged(picture, images[0].shape) for picture in features]
        rows.append([_outlined(p, m) for p, m in zip(pictures, masks, strict=True)])
        score = scores.get(name)
        titles.append(name if score is None else f"{name}: context {score:.3f}")
    return contact_sheet(rows, row_titles=titles, height=130)


def _enlarged(picture: Image, shape: tuple[int, ...]) -> Image:
    size = (shape[1], shape[0])
    return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)


def _outlined(image: Image, mask: NDArray[np.bool_]) -> Image:
    """The image at twice the size, with the outline of the mask in white on black."""
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    area = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    borders, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(large, borders, -1, (0, 0, 0), 3)
    cv2.drawContours(large, borders, -1, (255, 255, 255), 1)
    return large.astype(np.uint8)
