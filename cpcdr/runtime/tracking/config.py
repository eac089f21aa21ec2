"""Where runs are recorded."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

_FLAT = tyro.conf.arg(prefix_name=False)  # --tracking without a prefix


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are recorded. The store itself is MLFLOW_TRACKING_URI, or mlflow.db right here.

    Attributes:
        tracking: whether runs are recorded.
        experiment: MLflow experiment.
        run_name: name shown in MLflow; empty: made from the command.
        parent: MLflow id of the run that this one belongs to, such as the sweep of a trial.
    """

    tracking: Annotated[Literal["mlflow", "none"], _FLAT] = "mlflow"
    experiment: Annotated[str, _FLAT] = "cpcdr"
    run_name: Annotated[str, _FLAT] = ""
    parent: Annotated[str, _FLAT] = ""
