"""What Tune is told to try and to stop, after any interruption."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")
pytestmark = pytest.mark.slow  # Ray's import alone takes seconds

from cpcdr.tune.ledger import STOPPED, Ledger  # noqa: E402
from cpcdr.tune.schedule import LedgerSearch, halving, population  # noqa: E402
from cpcdr.tune.space import Range  # noqa: E402

SPACE = {"gain": Range("loguniform", (16.0, 144.0)), "prototypes": Range("choice", (64, 100))}
DEFAULT = {"gain": 48.0, "prototypes": 100}


def search(ledger: Ledger, total: int = 5) -> LedgerSearch:
    return LedgerSearch(ledger, SPACE, [DEFAULT, DEFAULT | {"gain": 20.0}], total, 0, "miou")


def test_every_trial_is_given_once_and_open_ones_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    first = search(ledger)
    given = [first.suggest(f"id-{i}") for i in range(3)]
    assert [g["number"] for g in given] == [0, 1, 2]
    assert given[0] == {"number": 0, "reported": 0, **DEFAULT}
    assert given[1]["gain"] == 20.0
    ledger.report(0, {"step": 30, "miou": 0.1}, DEFAULT)
    ledger.end(1, STOPPED)
    # The driver is killed; two trials were running, two more were to come.
    again = search(Ledger(ledger.path))
    later = [again.suggest(f"new-{i}") for i in range(5)]
    assert later[0] == {"number": 0, "reported": 30, **DEFAULT}
    assert later[1] == {**given[2], "reported": 0}
    assert [g["number"] for g in later[2:4]] == [3, 4] and later[4] == again.FINISHED
    assert len(Ledger(ledger.path).trials) == 5


def told(scheduler: Any, number: int, step: int, miou: float, known: str = "") -> str:
    trial = SimpleNamespace(trial_id=known or f"t{number}", config={"number": number})
    if trial.trial_id not in scheduler._trial_info:
        scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"step": step, "miou": miou})


def test_halving_decides_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    whole = halving(ledger, "miou", 30, 90)
    scores = [0.10, 0.30, 0.20, 0.25, 0.05, 0.28]
    decisions = [told(whole, number, 30, miou) for number, miou in enumerate(scores)]
    assert decisions == ["CONTINUE", "CONTINUE", "CONTINUE", "CONTINUE", "STOP", "CONTINUE"]
    for cut in range(1, len(scores)):
        known = Ledger(tmp_path / f"cut-{cut}.jsonl")
        for number, miou in enumerate(scores[:cut]):
            known.add(DEFAULT)
            known.report(number, {"step": 30, "miou": miou}, DEFAULT)
        resumed = halving(known, "miou", 30, 90)
        later = [told(resumed, n, 30, scores[n], f"new-{n}") for n in range(cut, len(scores))]
        assert later == decisions[cut:], f"killed after {cut} reports"


def test_the_default_runs_to_its_end_however_bad_it_is(tmp_path: Path) -> None:
    scheduler = halving(Ledger(tmp_path / "trials.jsonl"), "miou", 30, 90)
    assert told(scheduler, 1, 30, 0.5) == "CONTINUE"
    assert told(scheduler, 0, 30, 0.1) == "CONTINUE"
    assert told(scheduler, 2, 30, 0.1) == "STOP"
    assert told(scheduler, 0, 90, 0.1) == "STOP", "it is complete"


def test_a_population_stays_within_the_space() -> None:
    from ray.tune.schedulers.pbt import _explore

    scheduler = population(SPACE, "miou", 15, 90)
    for _ in range(200):
        found, _ = _explore(
            {"gain": 140.0, "prototypes": 64},
            scheduler._hyperparam_mutations,
            scheduler._resample_probability,
            scheduler._perturbation_factors,
            scheduler._custom_explore_fn,
        )
        assert SPACE["gain"].holds(found["gain"]) and SPACE["prototypes"].holds(found["prototypes"])
