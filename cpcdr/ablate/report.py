"""Estimates of every metric by variant, as plain data and as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpcdr.ablate.variants import FULL, NO_PASTE, without_pastes
from cpcdr.evaluate.clusters import METHODS
from cpcdr.evaluate.statistics import estimate, holm, interval_text, paired, verdict
from cpcdr.runtime.tables import csv_text, text_table

COLOUR = "colour k-means"
REFERENCES = (NO_PASTE, FULL)
"""Baselines: every variant is compared with them, paired by seed."""


@dataclass(frozen=True)
class Metric:
    """A metric of a trial in tables and plots: key in the result, title, display factor."""

    key: str
    title: str
    factor: float


METRICS = (
    Metric("miou", "mIoU in %, unsupervised", 100),
    Metric("pixel_kmeans", "mIoU in %, spherical k-means on pixels", 100),
    Metric("class_information", "what prototypes tell about classes, in %", 100),
    Metric("few_labels_5", "mIoU in %, prototypes named by 5 labelled frames", 100),
    Metric("linear_ridge", "mIoU in %, linear probe of frozen features", 100),
    Metric("backbone_kmeans", "mIoU in %, spherical k-means on the backbone's features", 100),
    Metric("backbone_ridge", "mIoU in %, linear probe of the backbone's features", 100),
    Metric("network_kmeans", "mIoU in %, spherical k-means on backbone and codes together", 100),
    Metric("network_ridge", "mIoU in %, linear probe of backbone and codes together", 100),
    Metric("context", "context test, lower is better", 1),
)
"""The first is the primary metric; the others are further views of the same networks."""

Rows = Sequence[Mapping[str, Any]]
Summary = dict[str, dict[str, dict[str, Any]]]
"""variant -> metric -> ``mean, low, high, n``, ``values`` by seed, ``minus`` by reference."""


def with_colour(results: Rows) -> list[Mapping[str, Any]]:
    """Results of trials, with the colour baseline in rows of its own."""
    own = [{k: v for k, v in row.items() if not k.startswith("colour_")} for row in results]
    colour = [
        {
            "variant": COLOUR,
            "seed": row["seed"],
            "miou": row["colour_miou"],
            "accuracy": row["colour_accuracy"],
        }
        for row in results
        if "colour_miou" in row
    ]
    return [*own, *colour]


def summarise(rows: Rows) -> Summary:
    """Estimates over the seeds, and of paired differences, of rows: variant, seed and metrics."""
    skipped = ("variant", "seed", "checkpoint")
    table: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        mine = table.setdefault(row["variant"], {})
        for key, value in row.items():
            if key not in skipped and isinstance(value, int | float):
                mine.setdefault(key, {})[int(row["seed"])] = float(value)
    summary: Summary = {}
    for name, metrics in table.items():
        summary[name] = {}
        for key, values in metrics.items():
            row = estimate(values.values())
            row["values"] = {str(seed): value for seed, value in sorted(values.items())}
            others = dict.fromkeys((*REFERENCES, without_pastes(name, table)))
            row["minus"] = {
                other: paired(values, table[other][key])
                for other in others
                if other != name and key in table.get(other, {})
            }
            summary[name][key] = row
    return summary


def cells(summary: Summary, metric: Metric) -> list[list[str]]:
    """Header and rows of a metric's table; empty if no variant has the metric."""
    having = [name for name in summary if metric.key in summary[name]]
    others = [name for name in REFERENCES if name in having]
    if not having:
        return []
    rows = [["variant", "n", metric.title, *(f"minus {other}" for other in others)]]
    for name in having:
        estimated = summary[name][metric.key]
        row = [name, str(estimated["n"]), interval_text(estimated, metric.factor)]
        for other in others:
            difference = estimated["minus"].get(other)
            text = interval_text(difference, metric.factor, "+") if difference else "–"
            if difference and difference["n"] != estimated["n"]:
                text += f" n={difference['n']}"
            row.append(text)
        rows.append(row)
    return rows


def _ruled_table(rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal, with a rule below its header."""
    header, *lines = text_table(rows).splitlines()
    return "\n".join([header, "-" * len(header), *lines])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def by_clustering(summary: Summary) -> list[list[str]]:
    """Header and rows of the mean mIoU for each clustering method, and its range."""
    rows = [["variant", *METHODS, "lowest – highest"]]
    for name, metrics in summary.items():
        if all(f"miou_{method}" in metrics for method in METHODS):
            means = [metrics[f"miou_{method}"]["mean"] for method in METHODS]
            spread = f"{100 * min(means):.1f} – {100 * max(means):.1f}"
            rows.append([name, *(f"{100 * mean:.1f}" for mean in means), spread])
    return rows


def verdicts(summary: Summary) -> list[str]:
    """What copy-paste brings to each variant in each metric, corrected for all of them together."""
    found = {}
    for name, metrics in summary.items():
        other = without_pastes(name, summary)
        for metric in METRICS:
            difference = metrics.get(metric.key, {}).get("minus", {}).get(other)
            if difference:
                found[name, other, metric] = difference
    tested = [which for which, difference in found.items() if difference["p"] is not None]
    corrected = dict(zip(tested, holm([found[which]["p"] for which in tested]), strict=True))
    lines = []
    for (name, other, metric), difference in found.items():
        p = corrected.get((name, other, metric))
        text = verdict(difference, p, len(tested), metric.factor)
        lines.append(f"{name} minus {other}, {metric.title}: {text}")
    return lines


def document(summary: Summary, about: Sequence[str], markdown: bool) -> str:
    """All tables below their conditions, as Markdown or as text."""
    draw = markdown_table if markdown else _ruled_table
    parts = [draw(rows) for rows in (cells(summary, metric) for metric in METRICS) if rows]
    parts.append("Mean mIoU in % by method of clustering the prototypes:")
    parts.append(draw(by_clustering(summary)))
    if found := verdicts(summary):
        parts.append(
            f"{FULL} minus {NO_PASTE}, paired by seed, Holm's correction over the metrics:"
        )
        parts.append("\n".join(f"- {line}" for line in found))
    bullets = "\n".join(f"- {line}" for line in about)
    return "\n\n".join([bullets, *parts]) + "\n"


def csv_table(summary: Summary) -> str:
    """One line per variant and metric: estimates and paired differences."""
    ends = ("mean", "low", "high", "n")
    lines = []
    for name, metrics in summary.items():
        for key, row in metrics.items():
            line = {"variant": name, "metric": key, **{end: row[end] for end in ends}}
            for other in REFERENCES:
                minus = row["minus"].get(other, {})
                line |= {f"minus {other}: {end}": minus.get(end) for end in ends}
            lines.append(line)
    return csv_text(lines)
