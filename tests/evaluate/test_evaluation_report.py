"""The report against the same scores computed one by one."""

from __future__ import annotations

import numpy as np

from cpcdr.evaluate.clusters import sum_clusters
from cpcdr.evaluate.matching import match, scores
from cpcdr.evaluate.report import class_table, label_remarks, network_report, usage_report
from cpcdr.evaluate.statistics import miou_interval
from cpcdr.frames import get_protocol


def test_prototype_counts_give_the_scores_of_their_clusters() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 50, (6, 9, 3))  # 9 prototypes, 3 classes
    frames[4] = 0  # a frame without labels is not drawn from
    ways = {"one": np.arange(9) % 3, "other": np.arange(9) // 3}
    groups = np.stack([sum_clusters(frame, ways["one"], 3) for frame in frames])
    matched = match(groups.sum(0))
    used = frames.sum(0)
    report = network_report(used, groups, matched, ways, ("a", "b", "c"))
    direct = {
        name: scores(match(c := sum_clusters(used, way, 3)).fold(c)).miou
        for name, way in ways.items()
    }
    assert report["miou_by_clustering"] == direct and report["miou"] == direct["one"]
    assert report["miou_range"] == {"min": min(direct.values()), "max": max(direct.values())}
    interval = miou_interval(np.delete(groups, 4, 0), matched)
    assert report["miou_interval"] == {**interval, "over": "5 frames"}
    # By hand: each prototype its most frequent class.
    majority = np.zeros((3, 3), np.int64)
    for row in used:
        majority[row.argmax()] += row
    assert report["majority_miou"] == scores(majority).miou
    assert set(report["per_class_iou"]) == {"a", "b", "c"} and report["absent_classes"] == []


def test_one_frame_has_no_interval_and_many_are_drawn_in_groups() -> None:
    counts = np.array([[3, 1], [1, 5]])
    ways = {"one": np.arange(2)}
    one = network_report(counts, counts[None], match(counts), ways, ("a", "b"))
    assert "miou_interval" not in one
    groups = np.repeat(counts[None], 9, axis=0)
    many = network_report(groups.sum(0), groups, match(counts), ways, ("a", "b"), "drives")
    assert many["miou_interval"]["over"] == "9 drives"


def test_remarks_name_absent_classes() -> None:
    camvid = get_protocol("camvid-11")
    pixels = np.ones(11, np.int64)
    assert label_remarks(pixels, camvid, "x") == []
    pixels[10] = 0
    assert label_remarks(pixels, camvid, "x") == [
        "x: no pixel is labelled cyclist; its IoU is not counted (camvid-11)."
    ]
    pixels[:2] = 0
    (remark,) = label_remarks(pixels, camvid, "x")
    assert "sky, building and cyclist; their IoU is not counted" in remark
    for name in ("cityscapes-19", "cityscapes-27", "kitti-19"):
        protocol = get_protocol(name)
        counts = np.zeros(len(protocol.classes), np.int64)
        counts[protocol.mapping[[7, 8, 17]]] = 9  # as train ids 7, 8 and 17 would be taken
        assert "train ids" in label_remarks(counts, protocol, "x")[1]
        counts[protocol.mapping[26]] = 1
        assert len(label_remarks(counts, protocol, "x")) == 1


def test_usage_of_clusters() -> None:
    assert usage_report(np.array([5, 5, 0, 0])) == {"clusters_used": 2, "cluster_entropy": 0.5}


def test_a_table_of_named_classes() -> None:
    ious = {"sky": 0.9, "pole": None}
    result = {"protocol": "camvid-11", "miou": 0.9, "accuracy": 0.8, "per_class_iou": ious}
    table = class_table({**result, "evaluated_frames": 101, "evaluate_size": [144, 192]})
    lines = [line.split() for line in table.strip().splitlines()]
    assert lines[0] == ["camvid-11,", "101", "frames", "at", "144×192", "IoU"]
    assert lines[1:] == [
        ["sky", "90.0"],
        ["pole", "absent"],
        ["mIoU", "90.0"],
        ["accuracy", "80.0"],
    ]
