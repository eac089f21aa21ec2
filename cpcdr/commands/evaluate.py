"""Score a pre-trained network by the unsupervised protocol.

Examples:
  cpcdr evaluate --network runs/pretrain/checkpoint
  cpcdr evaluate --network runs/camvid/checkpoint --frames camvid:CamVid/val
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.commands.inputs import record_frames, short_name
from cpcdr.evaluate.baselines import fit_colour_position
from cpcdr.evaluate.clusters import (
    CLUSTERS_WITHOUT_LABELS,
    METHODS,
    cluster_prototypes,
    sum_clusters,
)
from cpcdr.evaluate.config import EvaluateConfig
from cpcdr.evaluate.counting import NETWORK, count_all, resampled_groups
from cpcdr.evaluate.figures import prediction_sheet, score_figures
from cpcdr.evaluate.matching import match, matched_scores
from cpcdr.evaluate.report import label_remarks, network_report, table, usage_report
from cpcdr.evaluate.score_networks import score_networks, scores_table
from cpcdr.evaluate.segmenters import (
    PrototypeSegmenter,
    Segmenter,
    open_network,
    prototype_segmenter,
    trained_with,
)
from cpcdr.frames import FrameSource, Protocol, get_protocol, open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.frames.pick import common_frames, spread_frames, usual_size, whole_size
from cpcdr.frames.protocols import evaluation_size
from cpcdr.frames.resize import fit_note
from cpcdr.runtime.checkpoint import read_checkpoint, weights_digest
from cpcdr.runtime.config import config_hash, to_plain, without
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tracking.run import Run, run_in_folder
from cpcdr.runtime.training_folder import usable_checkpoint

UNTRAINED, COLOUR = "untrained", "colour"


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score the network, the untrained network and colour k-means on the same frames.

    Returns:
        ``protocol``, ``miou``, ``accuracy``, ``untrained_miou``, ``colour_miou`` (None without
        labels), ``clusters_used``, ``cluster_entropy``, ``frames``, and with labels the
        result of `cpcdr.evaluate.report.network_report`, and with labelled ``train_frames``
        what `cpcdr.evaluate.score_networks.score_networks` returns ...

    Raises:
        InputError: checkpoint, frames or protocol cannot be used.
    """
    start = time.perf_counter()
    config = replace(config, network=usable_checkpoint(config.network))
    values, _ = read_checkpoint(config.network, "pretrain")
    trained_size, _ = trained_with(config.network, values)
    source = open_frames(config.frames, config.options, config.protocol)
    fitted = _train_frames(config, source)
    protocol = get_protocol(source.protocol) if source.protocol else None
    if protocol:
        _refuse_without_label_maps(source)
    size = evaluation_size(protocol, config.size, whole_size(source, trained_size))
    print(f"{source.spec}: {fit_note(usual_size(source), size)}.")
    identity = without(config, "tracking", "out", "engine")
    inputs = {"network": weights_digest(config.network), "frames": frames_digest(source)}
    inputs |= {"train_frames": frames_digest(fitted)} if fitted else {}
    digest = config_hash({**identity, "training": values["config"], "inputs": inputs})
    out = config.folder
    about = (values["config"]["model"]["backbone"], short_name(source.spec))
    with run_in_folder(config.tracking, "evaluate", digest, to_plain(config), out, about) as run:
        record_frames(run, source, inputs["frames"], "evaluation")
        if fitted:
            record_frames(run, fitted, inputs["train_frames"])
        run.tags({"cpcdr.protocol": protocol.name} if protocol else {})
        result, sheet = _score(config, source, protocol, size, run)
        if fitted:
            result |= _fitted_scores(config, fitted, source, size, run)
        run.figure("predictions", sheet, out)
        data = {"frames": config.frames, "train_frames": config.train_frames}
        result |= {"size": list(size), "clustering": config.clustering, "data": data}
        result["config_hash"] = digest
        result |= {"seconds": round(time.perf_counter() - start, 1), "run_id": run.run_id}
        write_json(out / "report.json", result)
        run.artifact(out / "report.json")
        run.describe(result)
        print(table(result) + (scores_table(result) if fitted else ""))
        used = ["--network", config.network, "--frames", config.frames]
        end_with(
            {"report": out / "report.json", "pictures": out / "predictions.png", "run": run.place},
            ["segment", *used, "--out", "runs/seen"],
        )
        return result


def _score(
    config: EvaluateConfig,
    source: FrameSource,
    protocol: Protocol | None,
    size: tuple[int, int],
    run: Run,
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The scores, logged as metrics, and the sheet of predictions."""
    classes = len(protocol.classes) if protocol else CLUSTERS_WITHOUT_LABELS
    methods = METHODS if protocol else (config.clustering,)
    prototypes = open_network(config.network, True).prototypes.detach().numpy()
    clusterings = {m: cluster_prototypes(prototypes, classes, m, config.seed) for m in methods}
    clusters = clusterings[config.clustering]
    segmenters = _segmenters(config, source, size, classes, len(prototypes))
    totals = count_all(config.engine, source, size, segmenters, classes, clusters)
    result: dict[str, Any] = {"protocol": protocol.name if protocol else None}
    result |= {"frames": int(totals["frames"]), "miou": None, "accuracy": None}
    result |= usage_report(sum_clusters(totals["usage"], clusters, classes))
    matched = None
    if protocol:
        used, groups = totals[NETWORK], totals["groups"]
        for remark in label_remarks(used.sum(0), protocol, source.spec):
            print(remark)
        matched = match(groups.sum(0))
        unit = resampled_groups(source.refs())[1]
        result |= network_report(used, groups, matched, clusterings, protocol.classes, unit)
        for figure, image in score_figures(matched.fold(groups.sum(0)), protocol).items():
            run.figure(figure, image)
    result |= _baseline_scores(totals if protocol else {})
    run.metrics({k: v for k, v in result.items() if isinstance(v, int | float | dict)}, step=0)
    frames = spread_frames(source, size, 5)
    network = segmenters[NETWORK]
    network.load()
    maps = [clusters[network.segment(frame.image[None])[0]] for frame in frames]
    return result, prediction_sheet(frames, maps, protocol, matched)


def _train_frames(config: EvaluateConfig, scored: FrameSource) -> FrameSource | None:
    """The frames to fit scores on, under the protocol of those that are scored on."""
    if not config.train_frames:
        return None
    if not scored.protocol:
        raise InputError(f"{scored.spec}: has no labels to score on; leave --train-frames out.")
    source = open_frames(config.train_frames, config.options, scored.protocol)
    if common := common_frames(source, scored):
        raise InputError(
            f"--train-frames {config.train_frames}: {common} of them are scored on; give others."
        )
    return source


def _fitted_scores(
    config: EvaluateConfig,
    fitted: FrameSource,
    scored: FrameSource,
    size: tuple[int, int],
    run: Run,
) -> dict[str, float]:
    """Scores of the network, the untrained one and floors that take frames to fit on."""
    networks = {"": open_network(config.network, True)}
    networks |= {"untrained_": open_network(config.network, False)} if config.baselines else {}
    numbers = score_networks(networks, fitted, scored, size, 0, config.seed)[1]
    run.metrics(numbers, step=0)
    return numbers


def _refuse_without_label_maps(source: FrameSource) -> None:
    """Fail before the pass, not after it. Rendered frames have no path but always labels."""
    if not any(ref.label_path or not ref.path for ref in source.refs()):
        raise InputError(
            f"{source.spec}: no frame has a label map; put the label files where they belong, or "
            "give the frames as images:FOLDER to see clusters without labels."
        )


def _segmenters(
    config: EvaluateConfig,
    source: FrameSource,
    size: tuple[int, int],
    clusters: int,
    prototypes: int,
) -> dict[str, Segmenter]:
    """The network, whose ids are nearest prototypes, and the baselines."""
    network = PrototypeSegmenter(config.network, np.arange(prototypes), prototypes)
    if not config.baselines:
        return {NETWORK: network}
    images = [frame.image for frame in spread_frames(source, size, 40)]
    method, seed = config.clustering, config.seed
    return {
        NETWORK: network,
        UNTRAINED: prototype_segmenter(config.network, clusters, False, method, seed),
        COLOUR: fit_colour_position(images, clusters, seed),
    }


def _baseline_scores(totals: Mapping[str, NDArray[np.int64]]) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    for name in (UNTRAINED, COLOUR):
        score = matched_scores(totals[name]) if name in totals else None
        result[f"{name}_miou"] = score.miou if score else None
        result[f"{name}_accuracy"] = score.accuracy if score else None
    return result
