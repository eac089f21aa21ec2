"""A command with one endless trial, for `test_runner` to stop: FOLDER."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from notebook import Notebook

from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.trials.runner import TrialSlots, run_trials


def endless_trial(parameters: dict[str, Any], shared: None) -> None:
    from ray import tune

    for step in range(1, 10_000):
        tune.report({"step": step, "score": step / 10})
        time.sleep(0.2)


def main(folder: Path) -> None:
    with ray_session():
        from cpcdr.trials.record import RecordTrials

        notebook = Notebook(folder / "lines", 1)
        with RecordTrials(notebook, TrackingConfig(), "", "study", "letters") as recorder:
            run_trials(
                endless_trial,
                None,
                {"letter": "a"},
                name=lambda parameters: "letter-a",
                folder=folder / "tune",
                slots=TrialSlots(1),
                callback=recorder,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
