"""Names for the clusters of a pre-trained network from a few labelled frames.

Nothing is trained: every prototype takes the class that most of its pixels have. Without labels
(--data), it picks the frames that are worth labelling, and says what the clusters are like.

Examples:
  cpcdr name --network runs/pretrain/checkpoint --data runs/data --out runs/to-label
  cpcdr name --network runs/pretrain/checkpoint --frames camvid:LABELLED --out runs/named
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.commands.inputs import record_frames, record_network, short_name
from cpcdr.dataset import PreparedDataset
from cpcdr.evaluate.clusters import cluster_prototypes
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.few_labels import name_prototypes
from cpcdr.evaluate.figures import prediction_sheet
from cpcdr.evaluate.matching import Match
from cpcdr.evaluate.network_scores import labelled_features, nearest_prototypes
from cpcdr.evaluate.probes import grid_labels
from cpcdr.evaluate.score_networks import labelled_frames
from cpcdr.evaluate.segmenters import open_network, trained_with
from cpcdr.frames import FrameSource, get_protocol, open_frames
from cpcdr.frames.decode import encode_jpeg
from cpcdr.frames.digest import frames_digest
from cpcdr.frames.pick import spread, spread_frames, whole_size
from cpcdr.frames.protocols import evaluation_size
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.prepare.origin import source_of
from cpcdr.runtime.checkpoint import read_checkpoint, weights_digest
from cpcdr.runtime.config import config_hash, to_plain, without, write_atomic
from cpcdr.runtime.device import default_device
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.hold import hold
from cpcdr.runtime.progress import Progress, phase
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tracking.run import open_run
from cpcdr.runtime.training_folder import usable_checkpoint
from cpcdr.segment.config import NameConfig
from cpcdr.segment.naming import refuse_other_folder, save_named
from cpcdr.segment.suggest import describe, look_at, telling_frames, usage_of
from cpcdr.segment.writers import above
from cpcdr.visualize.pictures import contact_sheet, legend, region_colours, save_png

_LOOKED_AT = 500
"""Frames among which those to label are chosen."""


def name(config: NameConfig) -> dict[str, Any]:
    """Name the prototypes, or suggest what to label.

    Returns:
        with labels: ``checkpoint``, ``protocol``, ``frames``, ``prototypes`` of each class and
        ``run_id``;
        without: ``frames`` to label, and ``clusters``, what each is like.

    Raises:
        InputError: checkpoint, frames, labels or dataset cannot be used.
    """
    start = time.perf_counter()
    config = replace(config, network=usable_checkpoint(config.network))
    values, _ = read_checkpoint(config.network, "pretrain")
    network = open_network(config.network, True).to(default_device())
    with hold(config.out):
        if config.data is None:
            result = _named(config, network, values)
        else:
            result = _suggested(config, network, config.data)
    return {**result, "seconds": round(time.perf_counter() - start, 1)}


def _named(
    config: NameConfig, network: SegmentationNetwork, values: dict[str, Any]
) -> dict[str, Any]:
    source = open_frames(config.frames, config.options, config.protocol)
    if not source.protocol:
        raise InputError(f"{config.frames}: has no labels; give labelled frames, or --data.")
    refuse_other_folder(config.out)
    plain = to_plain(without(config, "tracking", "out"))
    inputs = {"network": weights_digest(config.network), "frames": frames_digest(source)}
    digest = config_hash({**plain, "inputs": inputs})
    key = config_hash([digest, str(config.out.absolute())])
    with open_run(config.tracking, "name", key, plain, about=(short_name(source.spec),)) as run:
        record_frames(run, source, inputs["frames"])
        result, example = _write_named(config, network, values, source)
        run.metrics({"prototypes": result["prototypes"]}, step=0)
        record_network(run, config.out, example)
        run.artifact(_pictures(config))
        result |= {"data": {"frames": config.frames}, "config_hash": digest}
        run.describe(result)
        end_with(
            {"network": config.out, "pictures": _pictures(config), "run": run.place},
            [
                "segment",
                "--network",
                config.out,
                "--frames",
                "video:drive.mp4",
                "--out",
                "named.mp4",
            ],
        )
        return {**result, "run_id": run.run_id}


def _pictures(config: NameConfig) -> Path:
    return config.out.with_name(f"{config.out.name}.png")


def _write_named(
    config: NameConfig, network: SegmentationNetwork, values: dict[str, Any], source: FrameSource
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Count, name, write the network and pictures: what the command returns, and an example."""
    protocol = get_protocol(source.protocol)
    trained_size, seed = trained_with(config.network, values)
    size = evaluation_size(protocol, (0, 0), whole_size(source, trained_size))
    prototypes = network.prototypes.detach()
    counts, frames = np.zeros((len(prototypes), len(protocol.classes)), np.int64), 0
    for features, labels in labelled_features(network, labelled_frames(source, size)):
        nearest = nearest_prototypes(network, features)
        counts += confusion(nearest, grid_labels(labels, nearest.shape), *counts.shape)
        frames += 1
    classes = name_prototypes(counts, prototypes.cpu().numpy())
    about = {
        "protocol": protocol.name,
        "size": list(size),
        "seed": seed,
        "dataset": values["config"]["dataset"],
        "named": {"frames": config.frames, "pretrained": weights_digest(config.network)},
    }
    save_named(config.out, network, classes, about, values["step"])
    shown = spread_frames(source, size, 4)
    match = Match(classes, len(protocol.classes), "few-labels")
    maps = [network.nearest_of(frame.image[None])[0] for frame in shown]
    save_png(_pictures(config), prediction_sheet(shown, maps, protocol, match))
    held = {c: int((classes == k).sum()) for k, c in enumerate(protocol.classes)}
    for each, pixels in zip(protocol.classes, counts.sum(0), strict=True):
        why = "" if held[each] else "; none is mostly this" if pixels else "; not in these labels"
        print(f"  {each:20s} {held[each]} of {len(prototypes)} prototypes{why}")
    result = {"checkpoint": str(config.out), "protocol": protocol.name, "frames": frames}
    return {**result, "prototypes": held}, shown[0].image


def _suggested(config: NameConfig, network: SegmentationNetwork, data: Path) -> dict[str, Any]:
    """Write the frames to label, a sheet of them, and what the clusters are like."""
    dataset = PreparedDataset(data)
    source = source_of(dataset.manifest)
    refs = {ref.frame_id: ref for ref in source.refs()}
    samples = dataset.samples(spread(len(dataset), _LOOKED_AT))
    prototypes = network.prototypes.detach().cpu().numpy()
    clusters = cluster_prototypes(prototypes, config.clusters)
    with phase("looking at the frames"):
        seen = look_at(network, samples)
    sequences = [sample.frame_id.rpartition("/")[0] for sample in samples]
    chosen = telling_frames(usage_of(seen, len(prototypes)), config.suggest, sequences)
    words, colours = describe(seen, clusters), region_colours(config.clusters)
    folder, names, sheet = config.out / "frames", list[str](), []
    folder.mkdir(parents=True, exist_ok=True)
    for i in Progress(chosen, desc="frames", unit="frame"):
        frame_id = samples[i].frame_id
        names.append(f"{len(names):02d}_{frame_id.replace('/', '_')}.jpg")
        image = source.read(refs[frame_id]).image
        write_atomic(folder / names[-1], encode_jpeg(image))
        cluster = clusters[network.nearest_of(samples[i].image[None])[0]]
        sheet.append([samples[i].image, colours[cluster]])
    known = [f"cluster {k} ({text})" for k, text in enumerate(words)]
    drawn = above(contact_sheet(sheet, row_titles=names), legend(tuple(known), colours))
    save_png(config.out / "frames.png", drawn)
    result = {"frames": names, "clusters": known}
    write_json(config.out / "suggested.json", result)
    print("\n".join(f"  {text}" for text in known))
    used = ["--network", config.network, "--out", "runs/named"]
    end_with(
        {"frames to label": folder, "pictures": config.out / "frames.png"},
        ["name", "--frames", "camvid:LABELLED", *used],
    )
    return result
