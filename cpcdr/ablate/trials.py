"""The trials of a study: each trains a network, scores it and writes ``result.json``.

The state of a trial is its folder: a trial with a ``result.json`` is finished and never started
again, one that was killed resumes from its newest checkpoint. A study can therefore be continued
with more variants or seeds.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpcdr.ablate.config import AblateConfig
from cpcdr.ablate.measure import Material, colour_scores, measure
from cpcdr.ablate.variants import Variant, pretraining
from cpcdr.runtime.checkpoint import newest_checkpoint, publish_checkpoint, write_checkpoint
from cpcdr.runtime.strict_json import read_json, write_json
from cpcdr.train.config import PretrainConfig
from cpcdr.train.history import read_history
from cpcdr.train.loop import LocalReporter, train_loop
from cpcdr.train.pretrain_task import task_of
from cpcdr.trials.runner import TrialSlots, run_trials

LAST = ("loss_over_lnK", "prototypes_used", "pasted_fraction", "points_with_positive")
"""Training metrics whose last values go into a trial's result."""


@dataclass(frozen=True)
class StudyTrial:
    """One variant with one seed."""

    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Unique in the study."""
        return f"{self.variant.name}-seed-{self.seed}"


@dataclass(frozen=True)
class StudyPlan:
    """What all trials of a study share.

    Attributes:
        config: of the study; its ``out`` is absolute.
        datasets: the dataset folder of each kind of regions.
        material: files that trials are scored with.
        trials: of the study.
    """

    config: AblateConfig
    datasets: Mapping[str, Path]
    material: Material
    trials: tuple[StudyTrial, ...]

    @property
    def seeds(self) -> list[int]:
        """Seeds of all trials, in order."""
        return list(dict.fromkeys(trial.seed for trial in self.trials))

    def trial(self, name: str) -> StudyTrial:
        """The trial with this name; Tune's parameters may hold plain values only."""
        return next(trial for trial in self.trials if trial.name == name)

    def folder(self, trial: StudyTrial) -> Path:
        """The folder of a trial's checkpoints, history and result."""
        return self.config.out / "trials" / trial.variant.name / f"seed-{trial.seed}"

    def settings(self, trial: StudyTrial) -> PretrainConfig:
        """The pre-training of a trial."""
        data, config = self.datasets[trial.variant.regions], self.config
        return pretraining(trial.variant, config.pretrain, data, trial.seed, config.steps)

    def result(self, trial: StudyTrial) -> dict[str, Any] | None:
        """The result of a finished trial; None if it is not finished."""
        path = self.folder(trial) / "result.json"
        return read_json(path) if path.exists() else None

    def finished(self) -> int:
        """Number of finished trials in the study's folder, including those of earlier starts."""
        return len(list(self.config.out.glob("trials/*/seed-*/result.json")))


def run_trial(parameters: dict[str, Any], plan: StudyPlan) -> None:
    """Run one trial in a process of Tune."""
    from ray import tune

    trial = plan.trial(parameters["trial"])
    if plan.result(trial) is None:
        start, folder = time.perf_counter(), plan.folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = trained(trial, plan) if trial.variant.trained else untrained(trial, plan)
        result: dict[str, Any] = {"variant": trial.variant.name, "seed": trial.seed}
        result["checkpoint"] = str(checkpoint)
        last = (read_history(folder / "history.jsonl") or [{}])[-1]
        result |= {name: last[name] for name in LAST if name in last}
        result |= measure(checkpoint, plan.material, plan.config.clustering, trial.seed)
        if not trial.variant.trained:
            baseline = colour_scores(plan.material, trial.seed)
            result |= {f"colour_{name}": value for name, value in baseline.items()}
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_json(folder / "result.json", result)
    tune.report({"step": plan.config.steps, "finished": True})


def trained(trial: StudyTrial, plan: StudyPlan) -> Path:
    """Train from the newest checkpoint to the last step; the final checkpoint."""
    settings, folder = plan.settings(trial), plan.folder(trial)
    final = folder / "checkpoint"
    if final.exists():
        return final
    result = train_loop(task_of(settings), settings.train, folder, LocalReporter(_tell_step))
    if result["alarm"]:
        raise RuntimeError(f"{trial.name}: {result['alarm']}")
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None, "a finished training has a checkpoint"
    publish_checkpoint(newest, final)
    shutil.rmtree(folder / "checkpoints")
    return final


def _tell_step(metrics: dict[str, float]) -> None:
    """Tell the driver how far the training is; it reads the rest from the history file."""
    from ray import tune

    tune.report({"step": metrics["step"]})


def untrained(trial: StudyTrial, plan: StudyPlan) -> Path:
    """A checkpoint of the initial network of the trainings with this seed."""
    settings, folder = plan.settings(trial), plan.folder(trial)
    task = task_of(settings)
    torch.manual_seed(trial.seed)
    weights = task.build().state_dict()
    values = {"kind": task.kind, "config": task.config(), "metrics": {}}
    written = write_checkpoint(folder / "checkpoints", 0, values, weights, {})
    publish_checkpoint(written, folder / "checkpoint")
    shutil.rmtree(folder / "checkpoints")
    return folder / "checkpoint"


def run_study(plan: StudyPlan, callback: Any) -> None:
    """Run the trials that are not finished.

    Raises:
        InputError: no machine has room for a trial.
        KeyboardInterrupt: the command was stopped.
    """
    from ray import tune

    pending = [trial.name for trial in plan.trials if plan.result(trial) is None]
    if pending:
        run_trials(
            run_trial,
            plan,
            {"trial": tune.grid_search(pending)},
            name=lambda parameters: str(parameters["trial"]),
            folder=plan.config.out / "tune",
            slots=TrialSlots(plan.config.concurrent),
            callback=callback,
        )
