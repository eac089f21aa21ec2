"""A trained network in one line: from a folder, an MLflow run or the model registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.config import read_yaml
from cpcdr.errors import InputError
from cpcdr.evaluate.segmenters import Segmenter, prototype_segmenter
from cpcdr.evaluate.supervised import ClassSegmenter
from cpcdr.frames import get_protocol
from cpcdr.tracking_store import tracking_uri
from cpcdr.visualize import region_colours

CLUSTERS = 19
"""Clusters of a network that has seen no label, where no other number is asked for."""


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network that is ready to segment.

    Attributes:
        segmenter: what does it.
        names: of the K classes; ``cluster 0`` .. where no label was ever seen.
        colours: uint8 [K, 3] RGB.
        size: (H, W) that the network was trained at.
    """

    segmenter: Segmenter
    names: tuple[str, ...]
    colours: NDArray[np.uint8]
    size: tuple[int, int]

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class or cluster of every pixel, uint8 [H, W], of an image uint8 [H, W, 3] RGB.

        The image is seen at the height of the training, and the answer comes at its own size.
        """
        height, width = image.shape[:2]
        scale = self.size[0] / height
        inside = (self.size[0], max(32, round(width * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(image, inside[::-1], interpolation=method).astype(np.uint8)
        ids = self.segmenter.segment(small).astype(np.uint8)
        answer = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return answer.astype(np.uint8)

    def overlay(self, image: NDArray[np.uint8], opacity: float = 0.5) -> NDArray[np.uint8]:
        """The image under the colours of its classes, uint8 [H, W, 3]."""
        colours = self.colours[self.segment(image)]
        return cv2.addWeighted(colours, opacity, image, 1 - opacity, 0).astype(np.uint8)


def load_network_for_use(model: str | Path, clusters: int = CLUSTERS) -> LoadedNetwork:
    """A trained network from wherever it is.

    Args:
        model: a checkpoint folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``.
        clusters: into how many clusters the prototypes of a pre-trained network are joined.

    Raises:
        InputError: there is no such model, or it is not one of pre-training or fine-tuning.
    """
    folder = find_checkpoint(str(model))
    values = read_yaml(folder / "config.yaml")
    kind = values.get("kind")
    if kind == "finetune":
        protocol = get_protocol(values["config"]["protocol"])
        network = LoadedNetwork(
            ClassSegmenter(folder), protocol.classes, protocol.colours, _size(values, "size")
        )
    elif kind == "pretrain":
        segmenter = prototype_segmenter(folder, clusters, True, "average", 0)
        names = tuple(f"cluster {i}" for i in range(clusters))
        size = tuple(values["config"]["dataset"]["size"])
        network = LoadedNetwork(segmenter, names, region_colours(clusters), (size[0], size[1]))
    else:
        raise InputError(
            f"{model}: is a checkpoint of kind '{kind}'; give one of pretrain.py or finetune.py."
        )
    network.segmenter.load()
    return network


def _size(values: dict, key: str) -> tuple[int, int]:
    height, width = values["config"][key]
    return int(height), int(width)


def find_checkpoint(model: str) -> Path:
    """The folder of a checkpoint; that of an MLflow address is downloaded.

    Raises:
        InputError: there is none.
    """
    if not model.startswith(("runs:/", "models:/")):
        folder = Path(model).expanduser()
        if not (folder / "config.yaml").is_file():
            raise InputError(
                f"{model}: has no config.yaml; give a checkpoint folder such as OUT/checkpoint, "
                "runs:/RUN_ID or models:/NAME@ALIAS."
            )
        return folder
    import mlflow

    mlflow.set_tracking_uri(tracking_uri())
    address = model
    if model.startswith("runs:/") and model.count("/") == 1:
        address = f"{model}/checkpoint"
    try:
        found = Path(mlflow.artifacts.download_artifacts(artifact_uri=address))
    except Exception as error:  # MLflow raises what its stores raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{model}: MLflow at {tracking_uri()} has no such model ({reason}); set "
            "MLFLOW_TRACKING_URI to where it was recorded."
        ) from error
    inside = next(iter(sorted(found.rglob("config.yaml"))), None)
    if inside is None:
        raise InputError(f"{model}: holds no checkpoint; give a run of pretrain.py or finetune.py.")
    return inside.parent
