"""One trial: dataset, short pre-training, scores. Runs in a process of Ray Tune.

The state of a trial is its folder, from which it resumes after a kill: the checkpoints of the
training, and ``reports.jsonl`` with the scores of those that were reported.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpcdr.dataset import read_manifest
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.checkpoint import CONFIG, newest_checkpoint, step_folder
from cpcdr.runtime.config import read_yaml
from cpcdr.train.config import PretrainConfig
from cpcdr.train.history import append_history, cut_history, read_history
from cpcdr.train.loop import LocalReporter, train_loop
from cpcdr.train.pretrain_task import task_of
from cpcdr.tune.config import SearchConfig
from cpcdr.tune.datasets import dataset_with
from cpcdr.tune.score import held_out, region_frames, score_network
from cpcdr.tune.space import Parameters, settings

Row = dict[str, Any]
"""A report: ``step``, scores, health metrics."""
HEALTH = ("loss_over_lnK", "prototypes_used", "prototype_entropy", "pasted_fraction")
REGION_FRAMES = 8  # of the dataset; their regions score every trial


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of a search share.

    Attributes:
        config: of the search.
        data: the dataset that the search starts from.
        regions: region settings of ``data``.
        reports: number of reports of a full trial.
        hand_over: give checkpoints to Tune, for other trials to continue from.
    """

    config: SearchConfig
    data: Path
    regions: RegionConfig
    reports: int
    hand_over: bool = False

    @property
    def every(self) -> int:
        """Steps between two reports."""
        return -(-self.config.steps // self.reports)

    def folder(self, number: int) -> Path:
        """The folder of a trial."""
        return self.config.out / "trials" / f"{number:04d}"


def score(setup: TrialSetup, checkpoint: Path, evaluate: str = "") -> dict[str, float]:
    """The scores of a checkpoint, on the search's evaluation frames or on others."""
    config, (height, width) = setup.config, read_manifest(setup.data)["size"]
    spec = evaluate or config.evaluate
    frames, protocol = held_out(spec, config.options, (height, width), config.frames)
    samples = region_frames(setup.data, REGION_FRAMES)
    scores = score_network(checkpoint, frames, protocol, samples, config.clusters)
    return scores | {"label_free": label_free(scores)}


def label_free(scores: dict[str, float]) -> float:
    """The objective of a search without labels."""
    return 0.5 * (scores["view_information"] + scores["region_information"])


@dataclass(frozen=True)
class TrialReports:
    """The reports of a trial: scores of each checkpoint, written to disk and then sent.

    Attributes:
        constants: of the trial, part of every report.
        send: receives every report; may end the trial by raising.
    """

    setup: TrialSetup
    out: Path
    constants: dict[str, float]
    send: Callable[[Row], None]

    def report(self, metrics: dict[str, float]) -> None:
        """Score the newest checkpoint, write the report down and send it."""
        checkpoint = newest_checkpoint(self.out / "checkpoints")
        assert checkpoint is not None, "the loop reports after writing a checkpoint"
        row: Row = {"step": int(metrics["step"]), **score(self.setup, checkpoint)}
        row |= {name: metrics.get(name, math.nan) for name in HEALTH} | self.constants
        append_history(self.out / "reports.jsonl", row)
        self.send(row)

    def catch_up(self, reported: int) -> None:
        """Send reports that were written before a kill and that the driver has not noted."""
        checkpoint = newest_checkpoint(self.out / "checkpoints")
        if checkpoint is None:
            return
        step = read_step(checkpoint)
        rows = read_history(self.out / "reports.jsonl")
        for row in rows:
            if reported < row["step"] <= step:
                self.send(row)
        if not rows or rows[-1]["step"] < step:
            lines = read_history(self.out / "history.jsonl")
            metrics = next((line for line in lines if line["step"] == step), {})
            self.report({**metrics, "step": step})


def run_trial(config: dict[str, Any], setup: TrialSetup) -> None:
    """Run a trial in a process of Tune, which may stop it at a report.

    Args:
        config: ``number``, ``reported`` (the last step in the ledger) and the parameters.
    """
    from ray import tune

    out = setup.folder(config["number"])

    def send(row: Row) -> None:
        path = str(newest_checkpoint(out / "checkpoints"))  # the loop has just written it
        handed = tune.Checkpoint.from_directory(path) if setup.hand_over else None
        tune.report({**row, "row": row, "checkpoint_path": path}, checkpoint=handed)

    reported = config["reported"]
    given = tune.get_checkpoint()
    if given is not None:
        with given.as_directory() as folder:
            reported = max(reported, take_over(Path(folder), out))
    train_trial(config, reported, setup, send)


def train_trial(
    config: dict[str, Any], reported: int, setup: TrialSetup, send: Callable[[Row], None]
) -> None:
    """Train a trial from its newest checkpoint to the last step, without Ray.

    Raises:
        RuntimeError: the training stopped itself; its reason.
    """
    parameters = {k: v for k, v in config.items() if k not in ("number", "reported")}
    full, regions = training_of(parameters, setup, setup.config.seed)
    out = setup.folder(config["number"])
    out.mkdir(parents=True, exist_ok=True)
    reports = TrialReports(setup, out, {"regions_per_frame": regions}, send)
    reports.catch_up(reported)
    result = train_loop(task_of(full), full.train, out, LocalReporter(reports.report))
    if result["alarm"]:
        raise RuntimeError(result["alarm"])


def training_of(
    parameters: Parameters, setup: TrialSetup, seed: int
) -> tuple[PretrainConfig, float]:
    """The full training with the parameters of a trial, and the regions of a frame in its data."""
    search = setup.config
    regions, pretrain = settings(parameters, setup.regions, search.pretrain)
    data = dataset_with(setup.data, regions, search.out / "datasets")
    training = pretrain.config(data, seed, search.steps, setup.every)
    return training, read_manifest(data)["regions_per_frame"]


def take_over(checkpoint: Path, out: Path) -> int:
    """Make another trial's checkpoint the newest one of ``out``; its step."""
    root, step = out / "checkpoints", read_step(checkpoint)
    incoming, final = root / ".taken.partial", step_folder(root, step)
    shutil.rmtree(incoming, ignore_errors=True)
    shutil.copytree(checkpoint, incoming)
    for own in root.glob("step-????????"):
        if own >= final:
            shutil.rmtree(own)
    incoming.rename(final)
    cut_history(out / "reports.jsonl", step)
    return step


def read_step(checkpoint: Path) -> int:
    """Optimiser steps of a checkpoint."""
    return int(read_yaml(checkpoint / CONFIG)["step"])
