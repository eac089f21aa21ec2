"""Recorded runs beside each other in one HTML page.

Differing parameters, metrics and figures. Curves are in MLflow, which draws those of the runs that
are selected there.

Examples:
  cpcdr compare --kinds pretrain
  cpcdr compare --parent RUN_ID_OF_A_SEARCH --out runs/search.html
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cpcdr.commands.config import CompareConfig
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase
from cpcdr.runtime.tables import text_table
from cpcdr.runtime.tracking.store import tracking_uri, without_password
from cpcdr.visualize.page import STYLE, embedded

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def compare(config: CompareConfig) -> dict[str, Any]:
    """Write the page and print the table.

    Returns:
        ``runs``, ``page``, ``differing`` (names of parameters), ``best``: run id and mIoU of the
        best run by protocol.

    Raises:
        InputError: the experiment or the parent has no runs.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking_uri())
    runs = find_runs(client, config)
    different = differing_params(runs)
    shared = config.metrics or shared_metrics(runs)
    best = best_by_protocol(runs)
    table = run_table(runs, different, shared)
    print(table)
    write_atomic(config.out, "".join(_page(client, config, runs, different, shared, best)))
    end_with({"page": config.out})
    return {
        "runs": len(runs),
        "page": str(config.out),
        "differing": list(different),
        "best": {
            protocol: {"run_id": run.info.run_id, "miou": run.data.metrics["miou"]}
            for protocol, run in best.items()
        },
    }


@phase("reading runs")
def find_runs(client: MlflowClient, config: CompareConfig) -> list[Run]:
    """The selected runs, newest first."""
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:
        names = sorted(e.name for e in client.search_experiments())
        raise InputError(
            f"{without_password(tracking_uri())}: has no experiment '{config.experiment}'; there "
            f"are {', '.join(names) or 'none'} (set MLFLOW_TRACKING_URI, or give --experiment)."
        )
    wanted = f"tags.`mlflow.parentRunId` = '{config.parent}'" if config.parent else ""
    runs = client.search_runs([experiment.experiment_id], wanted, max_results=1000)
    kept = [r for r in runs if not config.kinds or r.data.tags.get("cpcdr.kind") in config.kinds]
    if not kept:
        what = f"trials of {config.parent}" if config.parent else "such runs"
        raise InputError(f"experiment '{config.experiment}' has no {what}.")
    return kept[: config.limit]


def differing_params(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Parameters that are not the same in all runs, with their values."""
    names = sorted({name for run in runs for name in run.data.params})
    values = {name: [run.data.params.get(name, "") for run in runs] for name in names}
    return {name: column for name, column in values.items() if len(set(column)) > 1}


def shared_metrics(runs: Sequence[Run]) -> tuple[str, ...]:
    """Metrics that at least two runs have (one, where there is one run)."""
    count = Counter(name for run in runs for name in run.data.metrics)
    first = ("miou", "accuracy", "loss_over_lnK", "loss")
    shared = [n for n in count if count[n] >= min(2, len(runs)) and not n.startswith("system/")]
    return tuple(sorted(shared, key=lambda n: (first.index(n) if n in first else len(first), n)))


def best_by_protocol(runs: Sequence[Run]) -> dict[str, Run]:
    """The run with the highest mIoU of each protocol (tag or parameter ``protocol``)."""
    best: dict[str, Run] = {}
    for run in runs:
        score = run.data.metrics.get("miou", math.nan)
        protocol = run.data.tags.get("cpcdr.protocol") or run.data.params.get("protocol") or "?"
        if math.isfinite(score) and (
            protocol not in best or score > best[protocol].data.metrics["miou"]
        ):
            best[protocol] = run
    return best


@phase("comparing runs")
def run_table(
    runs: Sequence[Run], different: Mapping[str, list[str]], metrics: Sequence[str]
) -> str:
    """One line a run: name, the first metrics, the first differing parameters."""
    names, params = list(metrics)[:4], list(different)[:6]
    head = ["run", *names, *params]
    rows = [
        [
            str(run.info.run_name or run.info.run_id[:8]),
            *(_number(run.data.metrics.get(name)) for name in names),
            *(different[name][i] for name in params),
        ]
        for i, run in enumerate(runs)
    ]
    return text_table([head, *rows])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _page(
    client: MlflowClient,
    config: CompareConfig,
    runs: Sequence[Run],
    different: Mapping[str, list[str]],
    metrics: Sequence[str],
    best: Mapping[str, Run],
) -> Iterator[str]:
    winners = {run.info.run_id for run in best.values()}
    yield f"<!doctype html><meta charset=utf-8><title>{html.escape(config.experiment)}</title>"
    yield f"<style>{STYLE}</style><h1>{html.escape(config.experiment)}: {len(runs)} runs</h1>"
    for protocol, run in best.items():
        score = 100 * run.data.metrics["miou"]
        name = html.escape(str(run.info.run_name))
        yield f"<p>Best by protocol <b>{html.escape(protocol)}</b>: {name}, mIoU {score:.1f}</p>"
    yield "<h2>Metrics, and the parameters that differ</h2><table><tr>"
    yield "".join(f"<th>{html.escape(h)}" for h in ["run", *metrics, *different]) + "</tr>"
    for i, run in enumerate(runs):
        yield f"<tr{' class=best' if run.info.run_id in winners else ''}>"
        yield f"<td>{html.escape(str(run.info.run_name))}<br><small>{run.info.run_id[:8]}</small>"
        yield "".join(f"<td class=n>{_number(run.data.metrics.get(m))}" for m in metrics)
        yield "".join(f"<td>{html.escape(values[i])}" for values in different.values()) + "</tr>"
    yield "</table>"
    yield from _figures(client, runs, config.figures)


def _figures(client: MlflowClient, runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        shown = []
        for run in runs:
            files = {f.path for f in client.list_artifacts(run.info.run_id, "figures")}
            if f"figures/{name}.png" in files:
                with TemporaryDirectory() as folder:
                    path = client.download_artifacts(run.info.run_id, f"figures/{name}.png", folder)
                    shown.append(embedded(Path(path).read_bytes(), str(run.info.run_name)))
        if shown:
            yield f"<h2>{html.escape(name)}</h2><div class=figures>"
            yield from shown
            yield "</div>"
