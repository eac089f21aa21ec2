"""What winner and default of a search show over seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.strict_json import write_json
from cpcdr.tune.config import SearchConfig
from cpcdr.tune.ledger import Trial
from cpcdr.tune.repeats import Repetition, RepetitionPlan, RepetitionRecords, compared
from cpcdr.tune.search import setup_of

WINNER, DEFAULT = Trial(4, {"gain": 2.0}), Trial(0, {"gain": 1.0})
SEEDS = range(3)


def plan_of(out: Path, frames: str = "synthetic:seed=9") -> RepetitionPlan:
    setup = setup_of(SearchConfig(out=out), out / "data", RegionConfig())
    both = tuple(Repetition(trial, seed) for seed in SEEDS for trial in (WINNER, DEFAULT))
    return RepetitionPlan(setup, frames, both)


def scored(plan: RepetitionPlan, trial: Trial, seed: int, value: float, name: str) -> None:
    folder = plan.folder(Repetition(trial, seed).key)
    folder.mkdir(parents=True)
    write_json(folder / "result.json", {"frames": plan.frames, name: value})


def test_the_difference_is_paired_by_seed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for seed, (high, low) in enumerate([(0.5, 0.4), (0.3, 0.19), (0.4, 0.31)]):
        scored(plan, WINNER, seed, high, "class_information")
        scored(plan, DEFAULT, seed, low, "class_information")
    assert plan.pending() == []
    result, finding = compared(plan, WINNER, DEFAULT, SEEDS, "class_information")
    assert result["winner_class_information"] == pytest.approx(0.4)
    assert result["default_class_information_seeds"] == {0: 0.4, 1: 0.19, 2: 0.31}
    assert result["lead_mean"] == pytest.approx(0.1) and result["lead_low"] > 0
    assert "n = 3: excludes zero" in finding
    assert "winner_miou" not in result


def test_a_difference_within_chance_is_called_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for seed, (high, low) in enumerate([(0.5, 0.4), (0.3, 0.4), (0.4, 0.35)]):
        scored(plan, WINNER, seed, high, "label_free")
        scored(plan, DEFAULT, seed, low, "label_free")
    _, finding = compared(plan, WINNER, DEFAULT, SEEDS, "label_free")
    assert "does not exclude zero" in finding
    assert compared(plan, DEFAULT, DEFAULT, SEEDS, "label_free")[1] == "", "nothing to compare"


def test_other_test_frames_are_scored_again(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    scored(plan, DEFAULT, 1, 0.2, "miou")
    assert len(plan.pending()) == 5 and RepetitionRecords(plan).ended() == 1
    assert len(plan_of(tmp_path, "synthetic:seed=10").pending()) == 6
    assert RepetitionRecords(plan).child_run("trial-0-seed-1").params == {"gain": 1.0, "seed": 1}
