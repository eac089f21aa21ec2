"""A trained network as ONNX or in MLflow's registry, or its backbone alone.

Examples:
  cpcdr export --network runs/finetune/checkpoint --out model.onnx --register cpcdr
  cpcdr export --what backbone --format timm --out backbone.safetensors
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cpcdr.model.export import write_backbone
from cpcdr.runtime.checkpoint import publish_checkpoint, weights_digest
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError, first_line
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.entities import log_model
from cpcdr.runtime.tracking.models import find_checkpoint
from cpcdr.runtime.tracking.run import Run, open_run
from cpcdr.runtime.tracking.store import tracking_uri, without_password
from cpcdr.segment import pyfunc
from cpcdr.segment.config import ExportConfig
from cpcdr.segment.load import LoadedNetwork, load_network_for_use
from cpcdr.segment.onnx import ScoringNetwork, write_onnx


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the ONNX file, check it against PyTorch at two sizes, register the network.

    Returns:
        ``onnx``, ``difference`` (largest, of scores relative to their range), ``size`` (height and
        width of the training), ``version`` and ``uri`` in the registry; or as `export_backbone`.

    Raises:
        InputError: the model cannot be used, a package is missing, ONNX disagrees, or MLflow
            refuses.
    """
    folder = find_checkpoint(config.network)
    network = load_network_for_use(folder, config.clusters)
    if config.what == "backbone":
        return export_backbone(config, folder, network)
    height, width = network.size
    about = {"height": str(height), "width": str(width), "names": "\n".join(network.names)}
    difference = write_onnx(ScoringNetwork(network).cpu().eval(), config.out, about, config.half)
    print(
        f"{config.out}: scale images until they cover {width}×{height} pixels, as they were in the "
        "training; its metadata has the size and the names."
    )
    result: dict[str, Any] = {"onnx": str(config.out), "difference": difference}
    result["size"] = [height, width]
    result |= register(config, folder, network) if config.register else {}
    model = result.get("uri", config.network)
    end_with(
        {"onnx": config.out, "model": result.get("uri", "")},
        ["segment", "--network", model, "--frames", "video:drive.mp4", "--out", "segmented.mp4"],
    )
    return result


def export_backbone(config: ExportConfig, folder: Path, network: LoadedNetwork) -> dict[str, Any]:
    """Write the backbone's weights and what to know of them; the paths and the latter."""
    out = config.out.with_suffix(".safetensors")
    about = {"checkpoint": str(folder.absolute()), "weights": weights_digest(folder)}
    library = "safetensors" if config.format == "auto" else config.format
    values = write_backbone(network.backbone, network.network.config, library, out, about)
    print(f"{out}: {values['load']}; images as {out.with_suffix('.json')} says.")
    return {"backbone": str(out), **values}


def register(config: ExportConfig, folder: Path, network: LoadedNetwork) -> dict[str, Any]:
    """Log a checkpoint as an MLflow model, register it as a new version, point the alias at it.

    Raises:
        InputError: MLflow does not take it.
    """
    plain, about = to_plain(config), (config.register,)
    with open_run(TrackingConfig(), "export", config_hash(plain), plain, about=about) as run:
        import mlflow

        try:
            version = _registered(config, folder, network, run)
            client = mlflow.MlflowClient(run.uri)
            client.set_registered_model_alias(config.register, config.alias, version)
        except mlflow.MlflowException as error:
            raise InputError(
                f"{config.register}: MLflow at {without_password(tracking_uri())} did not register "
                f"it ({first_line(error)}); {config.out} is written, run the same command again."
            ) from error
    return {"version": version, "uri": f"models:/{config.register}@{config.alias}"}


def _registered(config: ExportConfig, folder: Path, network: LoadedNetwork, run: Run) -> str:
    """The new version of the registered model."""
    example = np.zeros((1, 32, 64, 3), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "checkpoint"
        publish_checkpoint(folder, data)
        logged = log_model(
            run.uri,
            run.run_id,
            data,
            pyfunc.__name__,
            weights_digest(folder),
            example,
            model_config={"clusters": config.clusters},
            metadata={"classes": list(network.names)},
            registered_model_name=config.register,
        )
    return str(logged.registered_model_version)
