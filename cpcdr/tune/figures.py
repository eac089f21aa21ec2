"""Figures of a search: importance, parallel coordinates, label-free score against one by labels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cpcdr.frames.decode import decode_image
from cpcdr.tune.ledger import DONE, Trial
from cpcdr.visualize.pictures import Image
from cpcdr.visualize.plots import finished, new_figure

if TYPE_CHECKING:
    from optuna import Study


def optuna_figure(plot: str, study: Study, **options: Any) -> Image:
    """A figure that Optuna draws: ``plot_param_importances``, ``plot_parallel_coordinate``, ..."""
    import matplotlib
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    matplotlib.use("agg")
    # Optuna sets a style for the whole process, and warns that these plots are experimental.
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = getattr(drawn, plot)(study, **options).get_figure()
    figure.set_size_inches(2 + 1.5 * len(study.trials[0].params), 4.5)
    drawing = io.BytesIO()
    figure.savefig(drawing, format="png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    return decode_image(drawing.getvalue(), plot)


def correlation_figure(trials: Sequence[Trial], every: int, by: str) -> Image:
    """The label-free score against a score by labels, at the first and at the last report."""
    figure = new_figure(4.6, 3.8)
    axes = figure.add_subplot()
    first = [t.reports[0] for t in trials if t.reports[0]["step"] == every]
    last = [t.reports[-1] for t in trials if t.status == DONE]
    for rows, name, colour in ((first, f"{every} steps", "#9bb7d4"), (last, "full", "#3b6ea8")):
        x, y = ([100 * row[key] for row in rows] for key in ("label_free", by))
        axes.plot(x, y, "o", markersize=5, color=colour, label=name)
    axes.set_xlabel("label-free score", fontsize=9)
    axes.set_ylabel(by, fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    return finished(figure, axes, "trials")
