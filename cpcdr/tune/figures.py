"""Figures of a search: importance, parallel coordinates, label-free score against mIoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cpcdr.tune.ledger import DONE, Trial
from cpcdr.visualize.pictures import Image
from cpcdr.visualize.plots import _figure, _finished

_LOGARITHMIC = ("gain", "epsilon", "temperature", "lr", "superpixels", "prototypes")


def importance_figure(importances: Mapping[str, float], title: str = "") -> Image:
    """Bars of the fraction of the score's variance that each parameter explains, largest on top."""
    names = sorted(importances, key=lambda name: -importances[name])
    figure = _figure(5.6, 0.3 * len(names) + 1.0)
    axes = figure.add_subplot()
    fractions = [importances[name] for name in names]
    axes.barh(range(len(names)), fractions, color="#3b6ea8", height=0.7)
    for row, value in enumerate(fractions):
        axes.text(value + 0.01, row, f"{100 * value:.0f}", va="center", fontsize=8, color="#333333")
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([])
    axes.set(xlim=(0, 1.12 * max(fractions)), ylim=(len(names) - 0.4, -0.6))
    axes.set_xlabel("% of the explained variance", fontsize=9)
    return _finished(figure, axes, f"importance for {title}")


def parallel_figure(trials: Sequence[Trial], names: Sequence[str], metric: str) -> Image:
    """Every trial as a line through its settings to its score; brighter is better.

    Trials that were stopped early are dashed: they were scored after fewer steps.
    """
    from matplotlib import colormaps

    ordered = sorted(trials, key=lambda trial: trial.score(metric))
    columns = [[float(t.parameters[name]) for t in ordered] for name in names]
    columns.append([100 * t.score(metric) for t in ordered])
    titles = [*names, metric]
    figure = _figure(1.25 * len(titles) + 0.6, 3.6)
    axes = figure.add_subplot()
    places = np.stack(
        [unit(np.array(c), n in _LOGARITHMIC) for c, n in zip(columns, titles, strict=True)]
    )
    for i, trial in enumerate(ordered):
        colour = colormaps["viridis_r"](1 - places[-1, i] * 0.92)
        style = "-" if trial.status == DONE else (0, (4, 2))
        axes.plot(places[:, i], color=colour, linewidth=1.5, linestyle=style, alpha=0.9)
        if trial.number == 0:
            axes.plot(places[:, i], "o", color="#222222", markersize=3.5, label="default")
    for at, column in enumerate(columns):
        axes.axvline(at, color="#999999", linewidth=0.8, zorder=0)
        axes.text(at, -0.04, f"{float(f'{min(column):.3g}'):g}", ha="center", va="top", fontsize=8)
        axes.text(
            at, 1.04, f"{float(f'{max(column):.3g}'):g}", ha="center", va="bottom", fontsize=8
        )
    axes.plot([], [], color="#777777", linestyle=(0, (4, 2)), label="stopped early")
    axes.set_xticks(range(len(titles)), [t.replace("_", "\n") for t in titles])
    axes.set_yticks([])
    axes.set(ylim=(-0.14, 1.14), xlim=(-0.3, len(titles) - 0.7))
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return _finished(figure, axes, "")


def correlation_figure(trials: Sequence[Trial], every: int) -> Image:
    """The label-free score against mIoU, at the first and at the last report."""
    figure = _figure(4.6, 3.8)
    axes = figure.add_subplot()
    first = [t.reports[0] for t in trials if t.reports[0]["step"] == every]
    last = [t.reports[-1] for t in trials if t.status == DONE]
    for rows, name, colour in ((first, f"{every} steps", "#9bb7d4"), (last, "full", "#3b6ea8")):
        x, y = ([100 * row[key] for row in rows] for key in ("label_free", "miou"))
        axes.plot(x, y, "o", markersize=5, color=colour, label=name)
    axes.set_xlabel("label-free score", fontsize=9)
    axes.set_ylabel("mIoU", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    return _finished(figure, axes, "trials")


def unit(values: NDArray[np.float64], logarithmic: bool = False) -> NDArray[np.float64]:
    """Values scaled to 0..1 from smallest to largest; 0.5 if all are equal."""
    if logarithmic and values.min() > 0:
        values = np.log(values)
    spread = np.ptp(values)
    return (values - values.min()) / spread if spread > 0 else np.full(len(values), 0.5)
