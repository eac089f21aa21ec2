"""Checkpoints by address: a folder, an MLflow run, or a model of MLflow's registry."""

from pathlib import Path

from cpcdr.runtime.checkpoint import CONFIG
from cpcdr.runtime.errors import InputError, first_line
from cpcdr.runtime.tracking.entities import MODEL
from cpcdr.runtime.tracking.store import quieten, tracking_uri
from cpcdr.runtime.training_folder import usable_checkpoint


def find_checkpoint(model: str) -> Path:
    """The folder of a checkpoint, downloaded if it is an MLflow address.

    Args:
        model: a checkpoint folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``; the folder of a
            training leads to the checkpoint in it.

    Raises:
        InputError: it does not exist.
    """
    if not model.startswith(("runs:/", "models:/")):
        folder = usable_checkpoint(Path(model).expanduser())
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"{model}: has no {CONFIG}; give a checkpoint folder such as OUT/checkpoint, "
                "runs:/RUN_ID or models:/NAME@ALIAS."
            )
        return folder
    quieten()
    import mlflow

    mlflow.set_tracking_uri(tracking_uri())
    address = model
    if model.startswith("runs:/") and model.count("/") == 1:
        address = f"{model}/{MODEL}"
    try:
        downloaded = Path(mlflow.artifacts.download_artifacts(artifact_uri=address))
    except Exception as error:  # MLflow raises what its stores raise
        raise InputError(
            f"{model}: MLflow at {tracking_uri()} has no such model ({first_line(error)}); set "
            "MLFLOW_TRACKING_URI to where it was recorded."
        ) from error
    inside = next(iter(sorted(downloaded.rglob(CONFIG))), None)
    if inside is None:
        raise InputError(
            f"{model}: holds no checkpoint; give a run of pretrain, finetune, probe or name."
        )
    return inside.parent
