"""Trials of a study that share a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cpcdr.ablate.config import AblateConfig
from cpcdr.ablate.measure import Material
from cpcdr.ablate.trials import StudyPlan, StudyTrial, trained
from cpcdr.ablate.variants import variants_of
from cpcdr.commands.prepare import prepare
from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime.checkpoint import read_checkpoint
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.history import read_history
from cpcdr.train.loop import LocalReporter

FRAMES = "synthetic:streets=4,frames=2,height=64,width=128"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare(PrepareConfig(FRAMES, out=out, engine="local", tracking=TrackingConfig("none")))
    return out


def plan_of(names: list[str], data: Path, out: Path) -> StudyPlan:
    config = AblateConfig(variants=tuple(names), seeds=(20, 21), steps=4, out=out)
    base = config.pretrain
    model = replace(base.model, backbone="resnet10", width=8, head_channels=32, prototypes=64)
    config = replace(config, pretrain=replace(base, model=model, frames_per_item=2))
    trials = tuple(StudyTrial(v, seed) for seed in config.seeds for v in variants_of(names))
    plan = StudyPlan(config, {"depth": data}, Material(out, None, out), trials)
    for trial in trials:
        plan.folder(trial).mkdir(parents=True)
    return plan


def test_clean_statistics_need_no_training_of_their_own(data: Path, tmp_path: Path) -> None:
    shared = plan_of(["full", "clean-norm"], data, tmp_path / "shared")
    both = [shared.trial(f"{name}-seed-20") for name in shared.config.variants]
    assert shared.with_statistics_of_batches(both[1]) == both[0]
    assert shared.with_statistics_of_batches(both[0]) is None
    first, second = (trained(trial, shared, LocalReporter()) for trial in both)
    assert not (second.parent / "progress.json").exists(), "nothing was trained"

    alone = plan_of(["clean-norm"], data, tmp_path / "alone")
    trial = alone.trial("clean-norm-seed-20")
    assert alone.with_statistics_of_batches(trial) is None
    whole = trained(trial, alone, LocalReporter())
    values, weights = read_checkpoint(whole, "pretrain")
    found, same = read_checkpoint(second, "pretrain")
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert found["config"] == values["config"] and found["step"] == values["step"] == 4
    losses = [
        [row["loss"] for row in read_history(p.parent / "history.jsonl")] for p in (whole, second)
    ]
    assert losses[0] == losses[1]
    batches = read_checkpoint(first, "pretrain")[1]
    moved = [name for name in weights if not torch.equal(weights[name], batches[name])]
    assert moved and all("running" in name or "tracked" in name for name in moved)
