"""The ledger survives any kill, and proposals depend on it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpcdr.tune.ledger import DONE, FAILED, OPEN, STOPPED, Ledger
from cpcdr.tune.propose import RANDOM_TRIALS, propose, study_of
from cpcdr.tune.space import Range

SPACE = {
    "gain": Range("loguniform", (16.0, 144.0)),
    "separation": Range("uniform", (0.05, 0.5)),
    "prototypes": Range("choice", (64, 100, 200)),
}


def row(step: int, miou: float) -> dict[str, float]:
    return {"step": step, "miou": miou}


@pytest.mark.slow
def test_it_is_read_as_it_was_written_whatever_line_the_kill_tore(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path)
    for gain in (16.0, 32.0, 64.0):
        ledger.add({"gain": gain})
    assert ledger.report(0, row(30, 0.1), {"gain": 16.0})
    assert not ledger.report(0, row(30, 0.1), {"gain": 16.0}), "a repeated report is known"
    assert ledger.report(1, row(30, 0.2), {"gain": 48.0})
    ledger.end(0, STOPPED)
    ledger.recorded(0)
    ledger.end(2, FAILED, "out of memory")
    text = path.read_text()
    for cut in range(len(text) + 1):
        path.write_text(text[:cut])
        torn = Ledger(path)
        torn.add({"gain": 1.0})
        again = Ledger(path)
        assert [vars(t) for t in again.trials] == [vars(t) for t in torn.trials]
        whole = text[:cut].rpartition("\n")[0]
        assert len(again.trials) == whole.count("parameters") - whole.count("report") + 1
    path.write_text(text)
    first, second, third = Ledger(path).trials
    assert (first.status, first.recorded, first.step) == (STOPPED, True, 30)
    assert (second.status, second.parameters) == (OPEN, {"gain": 48.0}), "a population's changed"
    assert (third.status, third.reason, third.recorded) == (FAILED, "out of memory", False)
    assert [t.number for t in Ledger(path).open_trials()] == [1]


def test_a_trial_that_is_tried_again_is_recorded_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.add({"gain": 16.0})
    ledger.end(0, FAILED, "killed")
    ledger.recorded(0)
    ledger.end(0, OPEN)
    assert ledger.trials[0].status == OPEN and not ledger.trials[0].recorded
    ledger.end(0, DONE)
    assert not Ledger(ledger.path).trials[0].recorded


def filled(ledger: Ledger, count: int) -> Ledger:
    """Trials whose score is best at gain 100; every third one was stopped early."""
    for number in range(len(ledger.trials), count):
        trial = ledger.add(propose(ledger.trials, SPACE, 5, "miou"))
        score = 1 - abs(trial.parameters["gain"] - 100) / 100
        ledger.report(number, row(30, score / 2), trial.parameters)
        if number % 3:
            ledger.report(number, row(90, score), trial.parameters)
        ledger.end(number, DONE if number % 3 else STOPPED)
    return ledger


def test_proposals_are_a_function_of_the_ledger(tmp_path: Path) -> None:
    whole = filled(Ledger(tmp_path / "whole.jsonl"), 12)
    text = whole.path.read_text()
    for killed in (3, 7):
        half = text[: text.index(f'{{"trial": {killed}, "par')]
        path = tmp_path / f"killed-{killed}.jsonl"
        path.write_text(half)
        goes_on = filled(Ledger(path), 12)
        assert [t.parameters for t in goes_on.trials] == [t.parameters for t in whole.trials]
    others = [propose(whole.trials, SPACE, seed, "miou") for seed in range(3)]
    assert len({tuple(p.values()) for p in others}) == 3
    assert all(SPACE[name].holds(v) for p in others for name, v in p.items())


def test_proposals_learn(tmp_path: Path) -> None:
    trials = filled(Ledger(tmp_path / "trials.jsonl"), 24).trials
    gains = [abs(t.parameters["gain"] - 100) for t in trials]
    assert sum(gains[-8:]) / 8 < sum(gains[:RANDOM_TRIALS]) / RANDOM_TRIALS


def test_a_study_knows_who_was_stopped_and_who_is_outside(tmp_path: Path) -> None:
    ledger = filled(Ledger(tmp_path / "trials.jsonl"), 6)
    ledger.add({"gain": 1.0, "separation": 0.2, "prototypes": 64})  # the default may be outside
    ledger.add({"gain": 20.0, "separation": 0.2, "prototypes": 64})
    ledger.end(7, FAILED, "nan")
    states = [trial.state.name for trial in study_of(ledger.trials, SPACE, "miou").trials]
    assert states == ["PRUNED", "COMPLETE", "COMPLETE"] * 2 + ["FAIL"]
    at_first = study_of(ledger.trials, SPACE, "miou", step=30).trials
    assert [t.value for t in at_first] == pytest.approx(
        [t.reports[0]["miou"] for t in ledger.trials[:6]]
    )
