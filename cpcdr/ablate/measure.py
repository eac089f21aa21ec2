"""Scores of a checkpoint: the unsupervised protocol, a linear probe and the context test.

One pass over the evaluation frames counts the pixels of every (prototype, class) pair. Clustering
the prototypes then sums rows, and the score equals that of the command evaluate.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.ablate.context import context_score, load_context_test
from cpcdr.ablate.labelled import LabelledFrames, load_frames
from cpcdr.evaluate.baselines import fit_colour_position
from cpcdr.evaluate.clusters import METHODS, cluster_prototypes
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.matching import matched_scores, scores
from cpcdr.evaluate.probes import RidgeProbe, grid_labels, linear_classes
from cpcdr.evaluate.report import clustered_scores
from cpcdr.frames.pick import spread
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.runtime.device import default_device, to_unit_float


@dataclass(frozen=True)
class Material:
    """The files that every trial is scored with.

    Attributes:
        evaluation: folder of the evaluation frames.
        probe: folder of the frames that the linear probe is fitted on; None without labels.
        context: file of the context test; need not exist.
    """

    evaluation: Path
    probe: Path | None
    context: Path


def measure(
    checkpoint: Path, material: Material, clustering: str, seed: int
) -> dict[str, float | None]:
    """All scores of a checkpoint; all but the context test are in 0..1.

    Args:
        clustering: method of clustering prototypes for ``miou`` and ``accuracy``.

    Returns:
        ``miou``, ``accuracy``, ``miou_METHOD`` for every clustering method, and where they can be
        computed ``linear_miou``, ``context`` (None for a collapsed network), ``context_moves``
        and ``context_apart``.
    """
    network, _ = load_network(checkpoint)
    network.to(default_device())
    frames = load_frames(material.evaluation)
    probe = None if material.probe is None else fit_probe(network, load_frames(material.probe))
    used, linear = count(network, frames, probe)
    prototypes = network.prototypes.detach().cpu().numpy()
    by_method = {
        m: clustered_scores(used, cluster_prototypes(prototypes, used.shape[1], m, seed))
        for m in METHODS
    }
    result: dict[str, float | None] = {
        "miou": by_method[clustering].miou,
        "accuracy": by_method[clustering].accuracy,
        **{f"miou_{method}": score.miou for method, score in by_method.items()},
    }
    if probe is not None:
        result["linear_miou"] = scores(linear).miou
    test = load_context_test(material.context)
    if test is not None:
        score = context_score(network, test)
        result["context"] = score.context if math.isfinite(score.context) else None
        result |= {"context_moves": score.moves, "context_apart": score.apart}
    return result


@torch.inference_mode()
def count(
    network: SegmentationNetwork, frames: LabelledFrames, probe: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Confusions of nearest prototypes (every pixel) and of the linear probe (at stride 4)."""
    classes = len(frames.protocol.classes)
    used = np.zeros((len(network.prototypes), classes), np.int64)
    linear = np.zeros((classes, classes), np.int64)
    for image, labels in zip(frames.images, frames.labels, strict=True):
        embedded = network.embed(_pixels(image, network))
        nearest = network.nearest(network.projector(embedded), labels.shape)[0]
        used += confusion(nearest.cpu().numpy(), labels, len(used), classes)
        if probe is not None:
            predicted = linear_classes(probe, _rows(embedded))
            grid = grid_labels(labels, tuple(embedded.shape[-2:]))
            linear += confusion(predicted, grid.ravel(), classes, classes)
    return used, linear


@torch.inference_mode()
def fit_probe(network: SegmentationNetwork, frames: LabelledFrames) -> NDArray[np.float64]:
    """The ridge probe of a frozen network: weights [C + 1, classes] for `linear_classes`."""
    ridge = RidgeProbe(network.config.head_channels, len(frames.protocol.classes))
    for image, labels in zip(frames.images, frames.labels, strict=True):
        embedded = network.embed(_pixels(image, network))
        ridge.add(_rows(embedded), grid_labels(labels, tuple(embedded.shape[-2:])).ravel())
    return ridge.solve()


def colour_scores(material: Material, seed: int) -> dict[str, float]:
    """``miou`` and ``accuracy`` of k-means on colour and position, on the same frames."""
    frames = load_frames(material.evaluation)
    classes = len(frames.protocol.classes)
    some = spread(len(frames), 40)
    model = fit_colour_position([np.asarray(frames.images[i]) for i in some], classes, seed)
    counts = np.zeros((classes, classes), np.int64)
    for image, labels in zip(frames.images, frames.labels, strict=True):
        counts += confusion(model.segment(image), labels, classes, classes)
    score = matched_scores(counts)
    return {"miou": score.miou, "accuracy": score.accuracy}


def _pixels(image: NDArray[np.uint8], network: SegmentationNetwork) -> Tensor:
    tensor = torch.from_numpy(np.array(image)).to(network.prototypes.device)
    return to_unit_float(tensor)[None]


def _rows(embedded: Tensor) -> NDArray[np.float32]:
    return embedded[0].flatten(1).T.cpu().numpy()
