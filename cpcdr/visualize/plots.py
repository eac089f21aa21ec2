"""Matplotlib plots as uint8 [H, W, 3] RGB arrays; Matplotlib is imported on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cpcdr.visualize.pictures import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACCENT = "#3b6ea8"


def confusion_figure(
    confusion: NDArray[np.int64], classes: Sequence[str], title: str = ""
) -> Image:
    """A confusion table, each label's pixels = 100 %.

    Args:
        confusion: int64 [K, K] or [K+1, K], rows predicted, columns labels (as `evaluate` counts);
            drawn transposed, one line per label. Row K is "no class".
        classes: K names.
    """
    names = [*classes, "no class"][: len(confusion)]
    fractions = confusion.T / np.maximum(confusion.sum(0), 1)[:, None]
    figure = new_figure(0.42 * len(names) + 2.4, 0.36 * len(classes) + 1.6)
    axes = figure.add_subplot()
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(fractions):
        if value >= 0.005:
            colour = "white" if value > 0.55 else "#222222"
            text = f"{100 * value:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted (% of the label's pixels)", ylabel="label")
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    return rendered(figure)


def per_class_bars(
    values: NDArray[np.floating],
    classes: Sequence[str],
    palette: NDArray[np.uint8] | None = None,
    title: str = "",
) -> Image:
    """Horizontal bars of per-class scores in 0..1, with their mean; NaN is written as "absent".

    Args:
        values: float [K].
        classes: K names.
        palette: uint8 [K, 3] RGB, the bars' colours; blue if None.
    """
    figure = new_figure(6.4, 0.27 * len(classes) + 1.1)
    axes = figure.add_subplot()
    colours = _ACCENT if palette is None else palette / 255
    heights = np.nan_to_num(np.asarray(values, np.float64))
    axes.barh(range(len(classes)), heights, color=colours, edgecolor="#555555", linewidth=0.4)
    for k, value in enumerate(values):
        text = f"{100 * value:.1f}" if np.isfinite(value) else "absent"
        axes.text(heights[k] + 0.01, k, text, va="center", fontsize=8, color="#333333")
    if np.isfinite(values).any():
        mean = float(np.nanmean(values))
        axes.axvline(mean, color="#222222", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        axes.set_xlabel(f"IoU in %, dashed: mean {100 * mean:.1f}", fontsize=9)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{v:.0f}" for v in np.linspace(0, 100, 6)])
    axes.set(xlim=(0, 1.08), ylim=(len(classes) - 0.4, -0.6))
    return finished(figure, axes, title)


def trajectory_figure(paths: Mapping[str, NDArray[np.floating]], title: str = "") -> Image:
    """Camera trajectories from above: positions [N, 3] (x right, y down, z forward) by name."""
    figure = new_figure(5.0, 5.0)
    axes = figure.add_subplot()
    for name, path in paths.items():
        axes.plot(path[:, 0], path[:, 2], label=name, linewidth=1.6)
        axes.plot(path[:1, 0], path[:1, 2], "o", color="#222222", markersize=4)
    axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="right", ylabel="forward", aspect="equal")
    axes.set_adjustable("datalim")
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    return finished(figure, axes, title)


def curve_figure(steps: Sequence[int], values: NDArray[np.floating], name: str, unit: str) -> Image:
    """A line of values float [N] over steps; what is not finite leaves a gap."""
    figure = new_figure(6.4, 2.8)
    axes = figure.add_subplot()
    axes.plot(steps, values, color=_ACCENT, linewidth=1.6)
    axes.set_xlabel(unit, fontsize=9)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    return finished(figure, axes, name)


def new_figure(width: float, height: float) -> Figure:
    """A figure without pyplot's global state; size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def finished(figure: Figure, axes: Axes, title: str) -> Image:
    """The figure's picture, its axes in the style of all plots."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return rendered(figure)


def rendered(figure: Figure) -> Image:
    """The figure's picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
