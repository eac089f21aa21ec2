"""A trained network for others: ONNX, and a registered MLflow model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.config import read_yaml
from cpcdr.errors import InputError
from cpcdr.evaluate.segmenters import prototype_segmenter
from cpcdr.model import load_network
from cpcdr.segment.load import CLUSTERS, find_checkpoint
from cpcdr.tracking_store import tracking_uri
from cpcdr.train.finetune_task import load_finetuned

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ExportConfig:
    """Write a checkpoint as ONNX and register it.

    Attributes:
        model: checkpoint folder of pretrain.py or finetune.py, ``runs:/RUN_ID`` or ``models:/...``.
        out: the ONNX file.
        clusters: how many clusters a network has that has seen no label.
        register: name in MLflow's model registry; empty: none.
        alias: given to the registered version, so that ``models:/NAME@ALIAS`` is this one.
    """

    model: str = "runs/pretrain/checkpoint"
    out: Path = Path("runs/model.onnx")
    clusters: int = CLUSTERS
    register: str = ""
    alias: str = "champion"


class Scores(nn.Module):
    """Images [N, 3, H, W] in [0, 1] to scores [N, K, H, W] of classes or clusters."""

    def __init__(self, folder: Path, clusters: int) -> None:
        super().__init__()
        kind = read_yaml(folder / "config.yaml").get("kind")
        if kind == "finetune":
            self.module: nn.Module = load_finetuned(folder)[0]
            self.register_buffer("prototypes", torch.zeros(0))
            self.cluster_of: list[list[int]] = []
        elif kind == "pretrain":
            network, _ = load_network(folder)
            assigned = prototype_segmenter(folder, clusters, True, "average", 0).clusters
            self.module = network
            self.register_buffer("prototypes", network.prototypes.detach())
            self.cluster_of = [np.flatnonzero(assigned == c).tolist() for c in range(clusters)]
        else:
            raise InputError(
                f"{folder}: is a checkpoint of kind '{kind}'; give one of pretrain.py or "
                "finetune.py."
            )

    def forward(self, images: Tensor) -> Tensor:
        """A cluster's score is that of its nearest prototype."""
        size = images.shape[-2:]
        if not self.cluster_of:
            scores = self.module.logits(images)  # type: ignore[operator]
            return functional.interpolate(scores, size, mode="bilinear")
        features = functional.interpolate(self.module(images), size, mode="bilinear")
        assert isinstance(self.prototypes, Tensor)
        near = torch.einsum("nchw,kc->nkhw", features, self.prototypes)
        return torch.stack([near[:, members].amax(1) for members in self.cluster_of], dim=1)


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the ONNX file, check it against PyTorch at two sizes, register the checkpoint.

    Returns:
        ``onnx``, ``difference`` (largest, of scores relative to their range), ``version`` and
        ``uri`` in the registry.

    Raises:
        InputError: the model cannot be used, a package is missing, or ONNX disagrees.
    """
    folder = find_checkpoint(config.model)
    scores = Scores(folder, config.clusters).eval()
    difference = export_onnx(scores, config.out)
    result: dict[str, Any] = {"onnx": str(config.out), "difference": difference}
    return result | (register(folder, config.register, config.alias) if config.register else {})


def export_onnx(scores: nn.Module, out: Path) -> float:
    """Write ONNX with free batch, height and width; the largest difference to PyTorch."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("ONNX export needs pip install 'cpcdr[onnx]'.") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    names = {0: "images", 2: "height", 3: "width"}
    torch.onnx.export(
        scores,
        (torch.rand(2, 3, 96, 192),),
        str(partial),
        input_names=["images"],
        output_names=["scores"],
        dynamic_axes={"images": names, "scores": names},
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in ((1, 3, 96, 192), (2, 3, 64, 160)):
        images = torch.rand(size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = scores(images).numpy()
        (found,) = session.run(None, {"images": images.numpy()})
        worst = max(worst, float(np.abs(found - expected).max() / np.ptp(expected)))
    if worst > _TOLERANCE:
        raise InputError(f"{out}: ONNX differs from PyTorch by {worst:.2g}; nothing was written.")
    partial.replace(out)
    return worst


def register(folder: Path, name: str, alias: str) -> dict[str, Any]:
    """Put a checkpoint into MLflow's model registry, as it is, and point an alias at it."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri())
    client = mlflow.MlflowClient()
    with mlflow.start_run(run_name=f"register-{name}") as run:
        mlflow.log_artifacts(str(folder), "checkpoint")
        source = f"{run.info.artifact_uri}/checkpoint"
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, source, run.info.run_id)
    client.set_registered_model_alias(name, alias, version.version)
    return {"version": version.version, "uri": f"models:/{name}@{alias}"}
