"""Where runs are recorded."""

from __future__ import annotations

from dataclasses import dataclass

from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are recorded. The store itself is MLFLOW_TRACKING_URI, or mlflow.db right here.

    Attributes:
        tracking: ``mlflow`` or ``none``.
        experiment: MLflow experiment.
        run_name: name shown in MLflow; empty: made from the command.
        parent: MLflow id of the run that this one belongs to, such as the sweep of a trial.
    """

    tracking: str = "mlflow"
    experiment: str = "cpcdr"
    run_name: str = ""
    parent: str = ""

    def __post_init__(self) -> None:
        if self.tracking not in ("mlflow", "none"):
            raise InputError(f"--tracking {self.tracking} is unknown: choose mlflow or none.")
