"""The report of an evaluation, computed from the counts of one pass over the frames.

Every clustering of the prototypes, and the majority vote, sums rows of one table: pixels per
prototype and class. Shape letters: P prototypes, K classes and clusters, G groups of
frames.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.evaluate.clusters import sum_clusters
from cpcdr.evaluate.few_labels import class_information
from cpcdr.evaluate.matching import Match, Scores, majority_vote, matched_scores, scores
from cpcdr.evaluate.statistics import miou_interval
from cpcdr.frames import Protocol
from cpcdr.runtime.progress import phase
from cpcdr.runtime.tables import text_table

_LARGEST_TRAIN_ID = 18  # of Cityscapes, whose label ids reach 33


def usage_report(usage: NDArray[np.int64]) -> dict[str, Any]:
    """``clusters_used`` and ``cluster_entropy`` in 0..1, from the pixels of each cluster [K]."""
    p = usage / max(1, usage.sum())
    entropy = -(p * np.log(np.maximum(p, 1e-12))).sum() / np.log(len(p))
    return {"clusters_used": int((p > 0).sum()), "cluster_entropy": float(entropy)}


@phase("computing scores and their interval")
def network_report(
    used: NDArray[np.int64],
    groups: NDArray[np.int64],
    matched: Match,
    clusterings: Mapping[str, NDArray[np.int64]],
    classes: tuple[str, ...],
    unit: str = "frames",
) -> dict[str, Any]:
    """Scores of a network's prototypes against labels.

    Args:
        used: int64 [P, K] pixels of each prototype and class.
        groups: int64 [G, K, K] of each cluster and class, by groups of frames.
        unit: what a group is.
        matched: match of the clusters of ``groups``, computed on their sum.
        clusterings: the cluster of each prototype, int64 [P], by method.

    Returns:
        ``miou``, ``accuracy``, ``miou_interval`` (95 %, if there are at least two groups),
        ``miou_by_clustering``, ``miou_range`` over these, ``majority_miou`` (every prototype
        takes its majority class, which uses the labels), ``class_information``,
        ``per_class_iou``, ``absent_classes``.
    """
    score = scores(matched.fold(groups.sum(0)))
    by_method = {name: clustered_scores(used, ids).miou for name, ids in clusterings.items()}
    result: dict[str, Any] = {"miou": score.miou, "accuracy": score.accuracy}
    labelled = groups[groups.any((1, 2))]
    if len(labelled) > 1:
        interval = miou_interval(labelled, matched)
        result["miou_interval"] = {**interval, "over": f"{len(labelled)} {unit}"}
    result |= {
        "miou_by_clustering": by_method,
        "miou_range": {"min": min(by_method.values()), "max": max(by_method.values())},
        "majority_miou": scores(majority_vote(used).fold(used)).miou,
        "class_information": class_information(used),
    }
    ious = zip(classes, score.per_class_iou.tolist(), strict=True)
    result["per_class_iou"] = {name: None if math.isnan(iou) else iou for name, iou in ious}
    result["absent_classes"] = [classes[i] for i in score.absent]
    return result


def clustered_scores(used: NDArray[np.int64], clusters: NDArray[np.int64]) -> Scores:
    """Scores of clustered prototypes from their pixels of each class, int64 [P, K]."""
    return matched_scores(sum_clusters(used, clusters, used.shape[1]))


def label_remarks(pixels: NDArray[np.int64], protocol: Protocol, spec: str) -> list[str]:
    """Warnings about labels, from the pixels of each class: absent ones, ids like train ids."""
    absent = [name for name, count in zip(protocol.classes, pixels, strict=True) if not count]
    if not absent:
        return []
    what = " and ".join([", ".join(absent[:-1]), absent[-1]] if len(absent) > 1 else absent)
    count = "its IoU is" if len(absent) == 1 else "their IoU is"
    remarks = [f"{spec}: no pixel is labelled {what}; {count} not counted ({protocol.name})."]
    beyond = protocol.mapping[_LARGEST_TRAIN_ID + 1 : -1]
    reached = beyond[(beyond >= 0) & (beyond < len(protocol.classes))]
    if protocol.label_ids == "cityscapes" and not pixels[reached].any():
        remarks.append(
            f"{spec}: no label id above {_LARGEST_TRAIN_ID} is in any label map, as if they held "
            "train ids, which would be misread as label ids: give the data set's original "
            "*_labelIds.png."
        )
    return remarks


def class_table(result: Mapping[str, Any]) -> str:
    """Scores of a network with named classes as a printed table, such as of fine-tuning.

    Args:
        result: ``protocol``, ``miou``, ``accuracy``, ``per_class_iou`` (None: absent),
            ``evaluated_frames``, ``evaluate_size``.
    """
    height, width = result["evaluate_size"]
    frames = f"{result['evaluated_frames']} frames at {height}×{width}"
    rows = [[f"  {result['protocol']}, {frames}", "IoU"]]
    rows += [
        [f"    {name}", "absent" if iou is None else f"{100 * iou:.1f}"]
        for name, iou in result["per_class_iou"].items()
    ]
    rows += [
        [f"  {n}", f"{100 * result[k]:.1f}"]
        for n, k in (("mIoU", "miou"), ("accuracy", "accuracy"))
    ]
    return "\n" + text_table(rows) + "\n"


def table(result: Mapping[str, Any]) -> str:
    """The result of `cpcdr.commands.evaluate.evaluate` as a printed table."""
    height, width = result["size"]
    if result["protocol"] is None:
        return (
            f"{result['frames']} frames at {height}×{width} without labels: "
            f"{result['clusters_used']} clusters used, entropy {result['cluster_entropy']:.2f}."
        )

    def row(name: str, key: str) -> str:
        return (
            f"  {name:52s} {100 * result[f'{key}miou']:5.1f} {100 * result[f'{key}accuracy']:9.1f}"
        )

    about = f"{result['protocol']}, {result['frames']} frames at {height}×{width}"
    lines = ["", f"  {about:52s}  mIoU  accuracy"]
    lines.append(row(f"pre-trained, no label seen ({result['clustering']})", ""))
    if "miou_interval" in result:
        interval = result["miou_interval"]
        name = f"  {100 * interval['level']:.0f} % interval over {interval['over']}"
        lines.append(f"  {name:52s} {_span(interval['low'], interval['high'])}")
    for method, miou in result["miou_by_clustering"].items():
        lines.append(f"  {'  clustered by ' + method:52s} {100 * miou:5.1f}")
    lines.append(f"  {'  range over clusterings':52s} {_span(*result['miou_range'].values())}")
    name = "  majority vote of each prototype (uses the labels)"
    lines.append(f"  {name:52s} {100 * result['majority_miou']:5.1f}")
    name = "  what prototypes tell about classes (uses the labels)"
    lines.append(f"  {name:52s} {100 * result['class_information']:5.1f}")
    for name, key in (
        ("the same network, untrained", "untrained_"),
        ("k-means on colour and position", "colour_"),
    ):
        lines += [row(name, key)] if result[f"{key}miou"] is not None else []
    return "\n".join([*lines, ""])


def _span(low: float, high: float) -> str:
    return f"{100 * low:5.1f} – {100 * high:.1f}"
