"""The linear probe as a usable network: a frozen network and its linear classifier."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.model.finetuned import FinetuneModule
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.runtime.checkpoint import save_checkpoint
from cpcdr.runtime.config import to_plain


def save_probe(
    folder: Path,
    network: SegmentationNetwork,
    weights: NDArray[np.floating],
    about: dict[str, Any],
    step: int,
) -> None:
    """Write a checkpoint in the form of a fine-tuned one, with the frozen network's weights.

    Args:
        folder: destination, replaced if it exists.
        weights: [C + 1, K], the last row is the offset.
        about: ``protocol``, ``size`` and further configuration to store.
    """
    module = FinetuneModule(network.config, weights.shape[1])
    module.network.load_state_dict(network.state_dict())
    linear = torch.from_numpy(weights.T).float()
    module.classifier.load_state_dict({"weight": linear[:, :-1, None, None], "bias": linear[:, -1]})
    values = {"kind": "probe", "config": {"model": to_plain(network.config), **about}}
    save_checkpoint(folder, step, values, module.state_dict())
