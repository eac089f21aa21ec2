"""Winner and default configuration over several seeds, on frames that scored no trial.

The winner has the highest of many scores of one seed, so a part of its lead is luck. Both are
trained again with other seeds, and what counts is the interval of their difference by seed. A
repetition is a folder with a ``result.json`` once it is finished; a killed one resumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpcdr.evaluate.statistics import estimate, paired, verdict
from cpcdr.runtime.checkpoint import newest_checkpoint
from cpcdr.runtime.strict_json import read_json, write_json
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.history import read_history
from cpcdr.train.loop import LocalReporter, train_loop
from cpcdr.train.pretrain_task import task_of
from cpcdr.trials.child_run import ChildRun, Config
from cpcdr.trials.runner import TrialSlots, run_trials
from cpcdr.tune.ledger import Trial
from cpcdr.tune.trial import TrialSetup, score, training_of

SCORES = ("class_information", "miou", "label_free")
"""Of the test frames, as far as they can be computed there."""


@dataclass(frozen=True)
class Repetition:
    """The settings of a trial with a seed of their own."""

    trial: Trial
    seed: int

    @property
    def key(self) -> str:
        """Unique in the search."""
        return f"trial-{self.trial.number}-seed-{self.seed}"


@dataclass(frozen=True)
class RepetitionPlan:
    """Repetitions of a search.

    Attributes:
        frames: spec of the frames that they are scored on.
        all: the repetitions.
    """

    setup: TrialSetup
    frames: str
    all: tuple[Repetition, ...]

    def folder(self, key: str) -> Path:
        """The folder of a repetition."""
        return self.setup.config.out / "repeats" / key

    def result(self, key: str) -> dict[str, Any] | None:
        """Scores of a finished repetition, if it was scored on these frames."""
        path = self.folder(key) / "result.json"
        stored = read_json(path) if path.exists() else {}
        return stored if stored.get("frames") == self.frames else None

    def adopt(self, one: Repetition) -> None:
        """Score the network that the search has trained already with this very seed."""
        trained = newest_checkpoint(self.setup.folder(one.trial.number) / "checkpoints")
        if trained is None or self.result(one.key) is not None:
            return
        self.folder(one.key).mkdir(parents=True, exist_ok=True)
        self._write(one.key, trained)

    def score(self, key: str) -> None:
        """Score a repetition that has been trained to the end."""
        newest = newest_checkpoint(self.folder(key) / "checkpoints")
        assert newest is not None, "a finished training has a checkpoint"
        self._write(key, newest)

    def _write(self, key: str, checkpoint: Path) -> None:
        scores = score(self.setup, checkpoint, self.frames)
        write_json(self.folder(key) / "result.json", {"frames": self.frames, **scores})

    def pending(self) -> list[str]:
        """Keys of what is not finished."""
        return [one.key for one in self.all if self.result(one.key) is None]


def run_repetition(parameters: dict[str, Any], plan: RepetitionPlan) -> None:
    """Train and score one repetition in a process of Tune."""
    from ray import tune

    repetition = next(one for one in plan.all if one.key == parameters["repetition"])
    out, config = plan.folder(repetition.key), plan.setup.config
    out.mkdir(parents=True, exist_ok=True)
    if plan.result(repetition.key) is None:
        training, _ = training_of(repetition.trial.parameters, plan.setup, repetition.seed)

        def tell(metrics: dict[str, float]) -> None:
            tune.report({"step": metrics["step"]})

        result = train_loop(task_of(training), training.train, out, LocalReporter(tell))
        if result["alarm"]:
            raise RuntimeError(result["alarm"])
        plan.score(repetition.key)
    tune.report({"step": config.steps})


@dataclass
class RepetitionRecords:
    """The folders of repetitions as records: what goes into their MLflow runs."""

    plan: RepetitionPlan
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All repetitions."""
        return len(self.plan.all)

    def key(self, config: Config) -> str:
        """The repetition's key."""
        return str(config["repetition"])

    def child_run(self, key: str) -> ChildRun:
        """The history of the training, and the scores once it is finished."""
        one = next(each for each in self.plan.all if each.key == key)
        history = read_history(self.plan.folder(key) / "history.jsonl")
        rows = [({k: v for k, v in row.items() if k != "step"}, row["step"]) for row in history]
        scores = self.plan.result(key) or {}
        test = {f"test/{k}": v for k, v in scores.items() if isinstance(v, float)}
        rows += [(test, self.plan.setup.config.steps)] if test else []
        params = {**one.trial.parameters, "seed": one.seed}
        tags = {"cpcdr.alarm": self.errors[key]} if key in self.errors else {}
        return ChildRun(key, params, rows, tags, failed=key in self.errors)

    def report(self, key: str, config: Config, result: dict[str, Any]) -> str:
        """How far the training is."""
        return f"{key}: step {result['step']:.0f}/{self.plan.setup.config.steps}"

    def end(self, key: str, error: str) -> None:
        """Keep the error of a repetition that failed."""
        if error:
            self.errors[key] = error

    def ended(self) -> int:
        """Repetitions that are finished or have failed."""
        return self.total - len(self.plan.pending()) + len(self.errors)

    def unrecorded(self) -> list[str]:
        """All finished ones: recording them again changes nothing."""
        return [one.key for one in self.plan.all if self.plan.result(one.key) is not None]

    def recorded(self, key: str) -> None:
        """Nothing to note."""


def repeat(
    plan: RepetitionPlan, slots: TrialSlots, tracking: TrackingConfig, parent: str, key: str
) -> None:
    """Run what is not finished, in the current Ray session.

    Raises:
        InputError: no machine has room for a training.
        KeyboardInterrupt: the command was stopped.
    """
    from ray import tune

    from cpcdr.trials.record import RecordTrials  # imports Ray

    with RecordTrials(RepetitionRecords(plan), tracking, parent, key, "repeat") as recorder:
        if pending := plan.pending():
            run_trials(
                run_repetition,
                plan,
                {"repetition": tune.grid_search(pending)},
                name=lambda parameters: str(parameters["repetition"]),
                folder=plan.setup.config.out / "repeats" / "tune",
                slots=slots,
                callback=recorder,
            )


def compared(
    plan: RepetitionPlan, winner: Trial, default: Trial, seeds: Sequence[int], metric: str
) -> tuple[dict[str, Any], str]:
    """Scores of winner and default over the finished seeds, and what they show, in words."""
    values: dict[str, dict[str, dict[int, float]]] = {"winner": {}, "default": {}}
    for name, trial in (("winner", winner), ("default", default)):
        for seed in seeds:
            found = plan.result(Repetition(trial, seed).key) or {}
            for score_name in SCORES:
                if score_name in found:
                    values[name].setdefault(score_name, {})[seed] = found[score_name]
    result: dict[str, Any] = {}
    for name, scores in values.items():
        means = {k: estimate(v.values()) for k, v in scores.items()}
        result |= {f"{name}_{k}": found["mean"] for k, found in means.items()}
        result |= {f"{name}_{k}_seeds": scores[k] for k in scores}
    if winner.number == default.number or not values["default"].get(metric):
        return result, ""
    difference = paired(values["winner"].get(metric, {}), values["default"][metric])
    result |= {f"lead_{k}": difference[k] for k in ("mean", "low", "high", "p")}
    return result, verdict(difference, difference["p"], 1)
