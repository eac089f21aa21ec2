"""Pre-train a segmentation network on a prepared dataset.

Dense SwAV on mosaics with copy-pasted regions.

Examples:
  cpcdr pretrain --data runs/dataset
  cpcdr pretrain --preset paper --data runs/drive --out runs/drive-pretrain
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpcdr.commands.inputs import length_of, record_network, record_prepared, short_name
from cpcdr.dataset import PreparedDataset, read_manifest
from cpcdr.frames.pick import spread
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.model.weights import load_backbone
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.device import to_unit_float
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.progress import phase
from cpcdr.runtime.tracking.run import run_in_folder
from cpcdr.train.config import PretrainConfig
from cpcdr.train.engine import train
from cpcdr.train.history import read_history
from cpcdr.train.pretrain_task import PretrainTask, task_of
from cpcdr.visualize.pictures import as_pictures, colour_features, colour_regions, contact_sheet

_FULL_RATE = (
    "note: the backbone learns as fast as a random one would, which costs it some of what it "
    "knows; --model.norm frozen --model.backbone-lr 0.03 --model.interpolate 0.5 keeps most."
)


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Train or resume; record the run and its figures.

    Returns:
        ``checkpoint``, ``loss_over_lnK``, ``steps``, ``seconds``, ``config_hash``, ``run_id`` ...

    Raises:
        InputError: the dataset cannot be used, or the training had to stop.
    """
    start, task = time.perf_counter(), task_of(config)
    settings = config.train
    digest = config_hash({"task": task.config(), "train": to_plain(settings)})
    manifest = read_manifest(config.data)
    if task.start:
        print(load_backbone(SegmentationNetwork(task.model), task.start))
        if task.model.backbone_lr == task.model.stage_decay == 1 and task.model.freeze < 4:
            print(_FULL_RATE)
    key = config_hash([digest, str(config.out.absolute())])
    about = (task.model.backbone, short_name(manifest["source"]), length_of(settings))
    plain = to_plain(config)
    with run_in_folder(config.tracking, "pretrain", key, plain, config.out, about) as run:
        record_prepared(run, config.data, manifest, "training")
        run.tags({"cpcdr.config_hash": digest})
        run.figure("mosaic", mosaic_sheet(task))
        checkpoint = train(task, settings, config.engine, config.out, run.metrics)
        run.figure("features", feature_sheet(task, checkpoint))
        record_network(run, checkpoint, PreparedDataset(config.data).samples([0])[0].image)
        last = read_history(config.out / "history.jsonl")[-1]
        if last["loss_over_lnK"] > 0.99:
            print(
                "warning: the loss is still ln K (chance level): nothing has been learned; "
                "train longer, or raise --train.lr."
            )
            run.tags({"cpcdr.alarm": "loss at ln K"})
        network = ["--network", checkpoint]
        end_with(
            {"network": checkpoint, "history": config.out / "history.jsonl", "run": run.place},
            ["segment", *network, "--frames", manifest["source"], "--out", "segmented.mp4"],
            ["finetune", *network, "--frames", "camvid:LABELLED", "--evaluate", "camvid:OTHERS"],
        )
        result = {
            "checkpoint": str(checkpoint),
            "dataset": str(config.data),
            "steps": last["step"],
            "loss_over_lnK": last["loss_over_lnK"],
            "prototypes_used": last["prototypes_used"],
            "pasted_fraction": last["pasted_fraction"],
            "seconds_per_step": last["seconds_per_step"],
            "data_wait_fraction": last["data_wait_fraction"],
            "seconds": round(time.perf_counter() - start, 1),
            "config_hash": digest,
            "run_id": run.run_id,
        }
        run.describe(result)
        return result


@phase("drawing a mosaic")
def mosaic_sheet(task: PretrainTask) -> np.ndarray:
    """The first mosaic of the run: mixed images over their regions, uint8 [H, W, 3]."""
    batch = next(task.batches(0, 0, 1, torch.device("cpu")))
    images = as_pictures(batch["images"])
    regions = [
        colour_regions(ids.numpy().astype(np.int64), image)
        for ids, image in zip(batch["regions"], images, strict=True)
    ]
    half = len(images) // 2
    shown = min(4, half)
    rows = [
        images[:shown],
        regions[:shown],
        images[half : half + shown],
        regions[half : half + shown],
    ]
    titles = ["round 1", "regions of round 1", "round 2", "regions of round 2"]
    return contact_sheet(rows, row_titles=titles)


@phase("drawing features")
def feature_sheet(task: PretrainTask, checkpoint: Path, frames: int = 4) -> np.ndarray:
    """Frames over their features, the first three principal components as RGB."""
    network, _ = load_network(checkpoint)
    dataset = PreparedDataset(task.data)
    images = [sample.image for sample in dataset.samples(spread(len(dataset), frames))]
    tensor = to_unit_float(torch.from_numpy(np.stack(images)))
    with torch.no_grad():
        features = torch.nn.functional.normalize(network(tensor), dim=1)
    rows = [images, list(colour_features(features.numpy()))]
    return contact_sheet(rows, row_titles=["frames", "features, first three components"])
