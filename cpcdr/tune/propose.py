"""The next setting to try: a function of the space, the seed and the trials so far.

Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
optimization"). The study is rebuilt from the ledger each time and the sampler is seeded with the
trial's number, so that a resumed search proposes what an uninterrupted one would.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cpcdr.train.loop import hash_seed
from cpcdr.tune.ledger import DONE, FAILED, OPEN, Trial
from cpcdr.tune.space import Parameters, Range, Space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

RANDOM_TRIALS = 4  # before the estimator has enough data


def propose(trials: Sequence[Trial], space: Space, seed: int, metric: str) -> Parameters:
    """Values for the next trial, which keep away from those of running ones."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # multivariate and constant_liar are experimental
        sampler = optuna.samplers.TPESampler(
            seed=hash_seed(seed, len(trials)) % 2**32,
            n_startup_trials=RANDOM_TRIALS,
            multivariate=True,
            constant_liar=True,
        )
    study = study_of(trials, space, metric, sampler)
    return study.ask({name: distribution(bounds) for name, bounds in space.items()}).params


def study_of(
    trials: Sequence[Trial], space: Space, metric: str, sampler: Any = None, step: int = 0
) -> Study:
    """The trials as an Optuna study, without those that have values outside the space.

    Args:
        step: 0 uses each trial's last score and marks stopped trials as pruned; otherwise every
            trial that reported at this step is complete with its score there.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    distributions = {name: distribution(bounds) for name, bounds in space.items()}
    for trial in trials:
        values = {name: trial.parameters.get(name) for name in space}
        if any(v is None or not space[n].holds(v) for n, v in values.items()):
            continue
        reports = {int(r["step"]): float(r[metric]) for r in trial.reports}
        state, value = TrialState.PRUNED, None
        if step:
            if step not in reports:
                continue
            state, value = TrialState.COMPLETE, reports[step]
        elif trial.status == OPEN:
            state = TrialState.RUNNING
        elif trial.status == DONE and reports:
            state, value = TrialState.COMPLETE, trial.score(metric)
        elif trial.status == FAILED or not reports:
            state = TrialState.FAIL
        study.add_trial(
            create_trial(
                state=state,
                value=value,
                params=values,
                distributions=distributions,
                intermediate_values=reports,
            )
        )
    return study


def distribution(bounds: Range) -> BaseDistribution:
    """A range as an Optuna distribution."""
    from optuna import distributions

    if bounds.kind == "choice":
        return distributions.CategoricalDistribution(bounds.values)
    low, high = bounds.values
    if bounds.kind == "int":
        return distributions.IntDistribution(low, high)
    return distributions.FloatDistribution(low, high, log=bounds.kind == "loguniform")
