"""The report of a search: tables, rank correlations, importance, winner against default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from cpcdr.dataset import read_manifest
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import write_atomic, write_yaml
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase
from cpcdr.runtime.tables import counted, csv_text, text_table
from cpcdr.runtime.tracking.run import Run
from cpcdr.train.config import PretrainSettings
from cpcdr.tune.figures import correlation_figure, optuna_figure
from cpcdr.tune.ledger import DONE, FAILED, Trial
from cpcdr.tune.propose import study_of
from cpcdr.tune.repeats import Repetition, RepetitionPlan, compared, repeat
from cpcdr.tune.score import LABEL_FREE
from cpcdr.tune.search import Search
from cpcdr.tune.space import settings

if TYPE_CHECKING:
    from optuna import Study

Columns = dict[int, dict[str, float]]
"""More metrics of the trials, by their numbers."""
CANDIDATES = (
    *("label_free", *LABEL_FREE),
    *("prototype_entropy", "prototypes_used", "loss_over_lnK", "regions_per_frame"),
)
"""Label-free metrics whose rank correlation with a score by labels a search reports."""
_WHEN = {"first": "first report", "full": "to the end", "last": "last report"}


def report(search: Search, run: Run, columns: Columns) -> dict[str, Any]:
    """Write trials.csv, reports.csv, best.yaml and figures; print the table and the next commands.

    Args:
        columns: metrics in addition to those that the trials reported.

    Returns:
        the part of the command's ``RESULT`` about the trials.

    Raises:
        InputError: no trial has a score.
    """
    scored = [trial for trial in search.ledger.trials if trial.reports]
    if not scored:
        raise InputError(f"{search.config.out}: no trial finished; see the errors above.")
    ranked = ranking(scored, search.metric)
    best = ranked[0]
    _write_tables(search, run, columns)
    table = trial_table(ranked, search)
    print(table)
    run.text("trials.txt", table + "\n")
    by = labelled_score(search.metric)
    correlations = rank_correlations(scored, search.setup.every, columns, by)
    if any(not math.isnan(row[when]) for row in correlations.values() for when in _WHEN):
        text = correlation_table(correlations, by)
        print(text)
        run.text("correlations.txt", text + "\n")
    _figures(search, run, correlations)
    path = search.config.out / "best.yaml"
    regions, pretrain = settings(best.parameters, search.setup.regions, search.config.pretrain)
    write_best(path, regions, pretrain)
    run.artifact(path)
    result = {
        "best": {name: best.parameters[name] for name in search.space},
        "best_trial": best.number,
        search.metric: best.score(search.metric),
        "objective": search.metric,
        "trials": len([t for t in search.ledger.trials if t.status != FAILED]),
        "failed": len([t for t in search.ledger.trials if t.status == FAILED]),
        "best_config": str(path),
        "correlations": correlations,
        **compare(search, best, run),
    }
    run.metrics(
        {k: v for k, v in result.items() if isinstance(v, int | float | dict) and k != "best"},
        step=0,
    )
    places = {"best": path, "run": run.place, "trials": run.trials}
    end_with(places, *commands(search, path, pretrain))
    return result


def ranking(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Trials from best to worst, with fully trained ones before those stopped early."""
    return sorted(trials, key=lambda t: (t.status != DONE, -t.score(metric)))


def compare(search: Search, best: Trial, run: Run) -> dict[str, Any]:
    """Winner and default configuration over seeds, on held-out frames that scored no trial."""
    config, default = search.config, search.ledger.trials[0]
    frames = config.test_frames()
    if not frames or not config.repeats:
        return {"test": None}
    seeds = range(config.seed, config.seed + config.repeats)
    both = list({trial.number: trial for trial in (best, default)}.values())
    wanted = tuple(Repetition(trial, seed) for seed in seeds for trial in both)
    plan = RepetitionPlan(search.setup, frames, wanted)
    for one in wanted:
        # The settings of a population's member have changed on the way.
        if one.seed == config.seed and one.trial.status == DONE and not search.setup.hand_over:
            plan.adopt(one)
    repeat(plan, search.slots, config.tracking, run.run_id, search.key)
    # Test frames may have no labels where those that scored the trials have some.
    for metric in dict.fromkeys((search.metric, "label_free")):
        result, finding = compared(plan, best, default, seeds, metric)
        if {f"winner_{metric}", f"default_{metric}"} <= result.keys():
            break
    else:
        print("winner and default cannot be compared: no training of one of them finished.")
        return {"test": frames, **result}
    told = (
        f"on the held-out {frames}, {counted(len(seeds), 'seed')}: {metric} in % "
        f"{100 * result[f'winner_{metric}']:.1f} (winner, trial {best.number}), "
        f"{100 * result[f'default_{metric}']:.1f} (default)"
    )
    print(f"{told}; the difference: {finding}." if finding else f"{told}.")
    return {"test": frames, **result}


def labelled_score(metric: str) -> str:
    """The score by labels that label-free ones are compared with: the objective, if it is one."""
    return "class_information" if metric == "label_free" else metric


def rank_correlations(
    trials: Sequence[Trial], every: int, columns: Columns, by: str
) -> dict[str, dict[str, float]]:
    """Spearman's rank correlation of every other metric with a score by labels.

    Args:
        trials: that have reported at least once.
        by: name of that score.

    Returns:
        by name: ``first`` over all trials at their first report, where all are equally trained;
        ``full`` over fully trained trials; ``last`` over the last report of every trial; each
        with its number of trials (``n_first`` ...). Empty without labels; NaN below three trials.
    """
    if by not in trials[0].reports[0]:
        return {}
    first = [(t, t.reports[0]) for t in trials if t.reports[0]["step"] == every]
    last = [(t, t.reports[-1]) for t in trials]
    groups = {"first": first, "full": [(t, r) for t, r in last if t.status == DONE], "last": last}
    ends = {k: [row | columns.get(t.number, {}) for t, row in v] for k, v in groups.items()}
    names = [*CANDIDATES, *next(iter(columns.values()), {})]
    correlations: dict[str, dict[str, float]] = {}
    for name in names:
        correlations[name] = {}
        for when, rows in ends.items():
            both = [[math.nan if row[name] is None else row[name], row[by]] for row in rows]
            pairs = np.array([pair for pair in both if not math.isnan(pair[0])])
            enough = len(pairs) >= 3 and bool((np.ptp(pairs, axis=0) > 0).all())
            rho = float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic) if enough else math.nan
            correlations[name] |= {when: rho, f"n_{when}": len(pairs)}
    return correlations


def correlation_table(correlations: dict[str, dict[str, float]], by: str) -> str:
    """The rank correlations as text."""
    rows = [
        [name, *(f"{row[when]:.2f} (n={row[f'n_{when}']:.0f})" for when in _WHEN)]
        for name, row in correlations.items()
    ]
    return "\n" + text_table([[f"rank correlation with {by}", *_WHEN.values()], *rows])


def trial_table(ranked: Sequence[Trial], search: Search) -> str:
    """The trials as text, best first."""
    labelled = "miou" in ranked[0].reports[0]
    scores = ("class_information", "miou", "label_free") if labelled else ("label_free",)
    head = ["trial", "end", "step", *scores, "regions", *search.space]
    rows = [
        [
            f"{t.number}" + (" (default)" if t.number == 0 else ""),
            *(t.status, str(t.step)),
            *(f"{100 * t.score(name):.1f}" for name in scores),
            f"{t.score('regions_per_frame'):.0f}",
            *(_short(t.parameters[name]) for name in search.space),
        ]
        for t in ranked
    ]
    return "\n" + text_table([head, *rows], str.rjust)


def _write_tables(search: Search, run: Run, columns: Columns) -> None:
    """trials.csv (the last report of each trial) and reports.csv (all of them)."""
    trials, reports = [], []
    for trial in search.ledger.trials:
        about = {"trial": trial.number, "end": trial.status, "reason": trial.reason}
        last = trial.reports[-1] if trial.reports else {}
        trials.append({**about, **last, **columns.get(trial.number, {}), **trial.parameters})
        reports += [{"trial": trial.number, **row} for row in trial.reports]
    for name, rows in (("trials.csv", trials), ("reports.csv", reports)):
        path = search.config.out / name
        write_atomic(path, csv_text(rows))
        run.artifact(path)


def importances(study: Study, evaluator: Any) -> dict[str, float]:
    """Fraction of the variance of the scores that each parameter explains.

    Empty with fewer than six trials inside the space, where it would only fit noise.
    """
    from optuna.importance import get_param_importances

    if len(study.trials) < 6 or len({trial.value for trial in study.trials}) < 2:
        return {}
    return get_param_importances(study, evaluator=evaluator)


@phase("drawing figures")
def _figures(search: Search, run: Run, correlations: dict[str, dict[str, float]]) -> None:
    """Optuna's figures compare the trials at their first report, where all are equally trained."""
    from optuna.importance import FanovaImportanceEvaluator  # Hutter et al. 2014

    study = study_of(search.ledger.trials, search.space, search.metric, step=search.setup.every)
    name = f"{search.metric} after {search.setup.every} steps"
    evaluator = FanovaImportanceEvaluator(seed=search.config.seed)
    if fractions := importances(study, evaluator):
        options = {"evaluator": evaluator, "target_name": name}
        run.figure("importance", optuna_figure("plot_param_importances", study, **options))
        plain = {k: float(v) for k, v in fractions.items()}
        write_yaml(search.config.out / "importance.yaml", plain)
    if study.trials:
        picture = optuna_figure("plot_parallel_coordinate", study, target_name=name)
        run.figure("parallel_coordinates", picture)
    if correlations:
        trials = [trial for trial in search.ledger.trials if trial.reports]
        by = labelled_score(search.metric)
        run.figure("label_free", correlation_figure(trials, search.setup.every, by))


def write_best(path: Path, regions: RegionConfig, pretrain: PretrainSettings) -> None:
    """Write the winner as a file for ``--config`` of prepare and pretrain."""
    names = ("model", "loss", "copy_paste", "train")
    sections = {name: asdict(getattr(pretrain, name)) for name in names}
    write_yaml(path, {"regions": asdict(regions), **sections})


def commands(search: Search, best: Path, pretrain: PretrainSettings) -> list[list[str]]:
    """Arguments of the commands that train the winner in full."""
    made = read_manifest(search.setup.data)["config"]
    tuned = search.config.out / "best"
    prepare = [*("--config", str(best)), *("--frames", made["frames"]), *("--depth", made["depth"])]
    if min(made["size"]) > 0:
        prepare += ["--size", *(str(side) for side in made["size"])]
    for name, value in made["options"].items():
        default = getattr(search.config.options.__class__(), name)
        if value != default and value != list(np.atleast_1d(default)):
            flag = f"--options.{name.replace('_', '-')}"
            prepare += [flag, *(str(v) for v in (value if isinstance(value, list) else [value]))]
    train = ["--config", str(best), "--data", str(tuned / "dataset"), "--out", str(tuned)]
    train += ["--frames-per-item", str(pretrain.frames_per_item), "--items", str(pretrain.items)]
    train += ["--seed", str(search.config.seed)]
    return [["prepare", *prepare, "--out", str(tuned / "dataset")], ["pretrain", *train]]


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
