"""Scores of a checkpoint: the unsupervised protocol, all of `NetworkScores`, the context test.

One pass over the evaluation frames counts the pixels of every (prototype, class) pair. Clustering
the prototypes then sums rows, and the score equals that of the command evaluate.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.ablate.context import context_score, load_context_test
from cpcdr.ablate.labelled import LabelledFrames, load_frames
from cpcdr.evaluate.baselines import fit_colour_position
from cpcdr.evaluate.clusters import METHODS, cluster_prototypes
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.few_labels import class_information
from cpcdr.evaluate.matching import matched_scores
from cpcdr.evaluate.network_scores import NetworkScores, labelled_features
from cpcdr.evaluate.report import clustered_scores
from cpcdr.frames.pick import spread
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.runtime.device import default_device


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
        ``miou``, ``accuracy``, ``miou_METHOD`` for every clustering method, ``class_information``,
        and where they can be computed the scores of `NetworkScores`, ``context`` (None for a
        collapsed network), ``context_moves`` and ``context_apart``.
    """
    network, _ = load_network(checkpoint)
    network.to(default_device())
    frames, fitted = load_frames(material.evaluation), None
    if material.probe is not None:
        fitted = fit_scores(network, load_frames(material.probe), seed)
    used = count(network, frames, fitted)
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
    result["class_information"] = class_information(used)
    if fitted is not None:
        result |= without_released(fitted)
    test = load_context_test(material.context)
    if test is not None:
        score = context_score(network, test)
        result["context"] = score.context if math.isfinite(score.context) else None
        result |= {"context_moves": score.moves, "context_apart": score.apart}
    return result


@torch.inference_mode()
def count(
    network: SegmentationNetwork, frames: LabelledFrames, fitted: NetworkScores | None
) -> NDArray[np.int64]:
    """Pixels of each nearest prototype and class: int64 [P, K]; ``fitted`` counts its own."""
    used = np.zeros((len(network.prototypes), len(frames.protocol.classes)), np.int64)
    for features, labels in labelled_features(network, frames):
        nearest = network.nearest(features.codes[None], labels.shape)[0]
        used += confusion(nearest.cpu().numpy(), labels, *used.shape)
        if fitted is not None:
            fitted.score(features, labels)
    return used


def fit_scores(network: SegmentationNetwork, frames: LabelledFrames, seed: int) -> NetworkScores:
    """Probes, k-means and prototypes of a frozen network, fitted on labelled frames."""
    fitted = NetworkScores(network, len(frames.protocol.classes), len(frames), 0, seed)
    for features, labels in labelled_features(network, frames):
        fitted.fit(features, labels)
    fitted.finish()
    return fitted


def without_released(fitted: NetworkScores) -> dict[str, float]:
    """The scores at stride 4, but for those that are counted of every pixel."""
    counted = ("released", "class_information")
    return {name: value for name, value in fitted.result().items() if name not in counted}


def colour_scores(material: Material, seed: int) -> dict[str, float]:
    """``miou`` and ``accuracy`` of k-means on colour and position, on the same frames."""
    frames = load_frames(material.evaluation)
    classes = len(frames.protocol.classes)
    some = spread(len(frames), 40)
    model = fit_colour_position([np.asarray(frames.images[i]) for i in some], classes, seed)
    counts = np.zeros((classes, classes), np.int64)
    for image, labels in frames:
        counts += confusion(model.segment(image[None])[0], labels, classes, classes)
    score = matched_scores(counts)
    return {"miou": score.miou, "accuracy": score.accuracy}
