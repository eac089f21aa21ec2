"""Ray Tune's searcher and schedulers on top of the ledger: proposals, early stopping, PBT.

Imports Ray: load it only within a session.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from ray.tune.search import Searcher

from cpcdr.tune.ledger import Ledger
from cpcdr.tune.propose import propose
from cpcdr.tune.space import Parameters, Range, Space


class LedgerSearch(Searcher):
    """Gives Tune the open trials, then ``starts`` and proposals, up to ``total``."""

    def __init__(
        self,
        ledger: Ledger,
        space: Space,
        starts: Sequence[Parameters],
        total: int,
        seed: int,
        metric: str,
    ) -> None:
        super().__init__(metric=metric, mode="max")
        self.ledger, self.space, self.starts = ledger, space, list(starts)
        self.score = metric
        self.total, self.seed = total, seed
        self.waiting = list(ledger.open_trials())

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Accept: the constructor has everything."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """The next trial: its number, the last reported step and its parameters."""
        if self.waiting:
            trial = self.waiting.pop(0)
        elif len(self.ledger.trials) < self.total:
            trial = self.ledger.add(self._next())
        else:
            return Searcher.FINISHED
        return {"number": trial.number, "reported": trial.step, **trial.parameters}

    def _next(self) -> Parameters:
        number = len(self.ledger.trials)
        if number < len(self.starts):
            return self.starts[number]
        return self.starts[0] | propose(self.ledger.trials, self.space, self.seed, self.score)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Does nothing: the callback has written it into the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the state is in the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a resumed search is a new Tune experiment over the same ledger."""


class Halving(ASHAScheduler):
    """Successive halving that knows the reports of earlier starts and never stops trial 0.

    Trial 0 is the default configuration, which the winner is compared with.
    """

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether the trial continues."""
        decision = super().on_trial_result(controller, trial, result)
        spared = trial.config["number"] == 0 and result[self._time_attr] < self._max_t
        return self.CONTINUE if spared else decision


def halving(ledger: Ledger, metric: str, every: int, steps: int) -> Halving:
    """Stops trials below the median after ``every`` steps, twice as many, and so on."""
    scheduler = Halving(
        time_attr="step",
        metric=metric,
        mode="max",
        max_t=steps,
        grace_period=min(every, steps),
        reduction_factor=2,
    )
    controller: Any = None  # successive halving never uses it
    for past in ledger.trials:
        trial: Any = SimpleNamespace(trial_id=f"past-{past.number}", config={"number": past.number})
        scheduler.on_trial_add(controller, trial)
        for row in past.reports:
            scheduler.on_trial_result(controller, trial, row)
    return scheduler


class Population(PopulationBasedTraining):
    """Population-based training that does not exploit or perturb finished trials."""

    def __init__(self, steps: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.steps = steps

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether the trial continues, waits for the others or ends."""
        if result[self._time_attr] >= self.steps:
            return self.STOP
        return super().on_trial_result(controller, trial, result)

    def _get_new_config(
        self, trial: Any, trial_to_clone: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Perturbed settings of the better trial, with the trial's own number."""
        config, how = super()._get_new_config(trial, trial_to_clone)
        return config | {name: trial.config[name] for name in ("number", "reported")}, how


def population(space: Space, metric: str, every: int, steps: int) -> Population:
    """Every ``every`` steps the worst quarter continues from checkpoints of the best quarter."""

    def within(parameters: Parameters) -> Parameters:
        """Clip to the space: perturbation multiplies by 0.8 or 1.2."""
        for name, bounds in space.items():
            if bounds.kind != "choice":
                low, high = bounds.values
                parameters[name] = min(max(parameters[name], low), high)
        return parameters

    return Population(
        steps,
        time_attr="step",
        metric=metric,
        mode="max",
        perturbation_interval=every,
        hyperparam_mutations={
            name: list(bounds.values) if bounds.kind == "choice" else domain(bounds)
            for name, bounds in space.items()
        },
        custom_explore_fn=within,
        synch=True,  # compare all at the same step, however many run at a time
    )


def domain(bounds: Range) -> Any:
    """A range as a Tune search space."""
    low, high = bounds.values
    if bounds.kind == "int":
        return tune.randint(low, high + 1)
    return tune.loguniform(low, high) if bounds.kind == "loguniform" else tune.uniform(low, high)
