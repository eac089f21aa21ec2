"""The MLflow loader behind ``mlflow.pyfunc.load_model("models:/NAME@ALIAS")``.

The registered model names this module and MLflow imports it from the installed package: no code of
the model is run, nothing is unpickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.evaluate.clusters import CLUSTERS_WITHOUT_LABELS
from cpcdr.segment.load import LoadedNetwork, load_network_for_use


class ImagesToClasses:
    """A network with MLflow's interface: batches in, batches out."""

    def __init__(self, network: LoadedNetwork) -> None:
        self.network = network

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Classes uint8 [N, H, W] of images uint8 [N, H, W, 3] RGB."""
        classes = self.network.segment_all(images)
        return np.stack(classes) if classes else np.zeros(images.shape[:3], np.uint8)


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> ImagesToClasses:
    clusters = (model_config or {}).get("clusters", CLUSTERS_WITHOUT_LABELS)
    return ImagesToClasses(load_network_for_use(Path(path), clusters))
