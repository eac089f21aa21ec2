"""Pre-training as a command: presets, the run, its record and figures."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpcdr.config import config_hash, to_plain
from cpcdr.copy_paste import ColourConfig, CopyPasteConfig, ViewConfig
from cpcdr.dataset import PreparedDataset
from cpcdr.loss import LossConfig
from cpcdr.model import ModelConfig, load_network
from cpcdr.storage import location
from cpcdr.tracking import TrackingConfig, open_run
from cpcdr.train.engine import EngineConfig, train
from cpcdr.train.history import read_history
from cpcdr.train.loop import TrainConfig
from cpcdr.train.pretrain_task import PretrainTask
from cpcdr.visualize import colour_features, colour_regions, contact_sheet


@dataclass(frozen=True)
class PretrainConfig:
    """Dense SwAV on a prepared dataset, with on-the-fly copy-paste of its regions.

    Attributes:
        data: dataset folder made by prepare.py, or an address such as ``s3://bucket/dataset``.
        out: run folder; run the same command again to continue.
        frames_per_item: M, frames of a mosaic; 2M mixed images.
        items: mosaics a worker and step.
        seed: of weights, data order and every random draw.
    """

    data: Path = Path("runs/dataset")
    out: Path = Path("runs/pretrain")
    frames_per_item: int = 8
    items: int = 1
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    copy_paste: CopyPasteConfig = field(default_factory=CopyPasteConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @staticmethod
    def presets() -> dict[str, PretrainConfig]:
        """``small`` for a laptop's CPU (the default), ``paper`` for GPUs."""
        return {"small": SMALL, "paper": PretrainConfig()}

    def task(self) -> PretrainTask:
        """The task that the workers run."""
        names = ("data", "model", "loss", "copy_paste", "frames_per_item", "items", "seed")
        task = PretrainTask(**{name: getattr(self, name) for name in names})
        return replace(task, data=location(self.data))


_MILD = ColourConfig(
    jitter=(0.3, 0.3, 0.3, 0.1), jitter_probability=0.5, blur_probability=0.0, grey_probability=0.05
)

# Sized for minutes on two cores, where the paper's settings have hardly left ln K: sharper codes
# and milder colours make the few steps count.
SMALL = PretrainConfig(
    frames_per_item=4,
    model=ModelConfig(
        "resnet18", width=32, fpn_channels=64, head_channels=64, feature_dim=64, prototypes=200
    ),
    loss=LossConfig(pixel_points=200, region_points=400, epsilon=0.015),
    copy_paste=CopyPasteConfig(colour=_MILD, view=ViewConfig(zoom=(1.0, 1.5), colour=_MILD)),
    train=TrainConfig(
        steps=160, optimizer="adamw", lr=3e-3, final_lr=1e-5, clip_norm=1.0, checkpoint_every=40
    ),
)


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Train, or go on; record the run and its figures.

    Returns:
        ``checkpoint``, ``loss_over_lnK``, ``steps``, ``seconds``, ``config_hash``, ``run_id`` ...

    Raises:
        InputError: the dataset cannot be used, or the training had to stop.
    """
    start, task = time.perf_counter(), config.task()
    settings = replace(config.train, seed=config.seed)
    digest = config_hash({"task": task.config(), "train": to_plain(settings)})
    manifest = PreparedDataset(config.data).manifest
    key = config_hash([digest, str(config.out.absolute())])
    with open_run(config.tracking, "pretrain", key, to_plain(config), config.out) as run:
        run.dataset(config.data, manifest["hash"])
        run.tags({"cpcdr.config_hash": digest})
        run.figure("mosaic", mosaic_sheet(task))
        checkpoint = train(task, settings, config.engine, config.out, run.metrics)
        run.figure("features", feature_sheet(task, checkpoint))
        run.artifact(checkpoint / "config.yaml", "checkpoint")
        run.artifact(checkpoint / "model.safetensors", "checkpoint")
        last = read_history(config.out / "history.jsonl")[-1]
        if last["loss_over_lnK"] > 0.99:
            print(
                "warning: the loss is still ln K, what a network that says nothing has; "
                "train longer, or raise --train.lr."
            )
            run.tags({"cpcdr.alarm": "loss at ln K"})
        return {
            "checkpoint": str(checkpoint),
            "dataset": str(config.data),
            "steps": last["step"],
            "loss_over_lnK": last["loss_over_lnK"],
            "prototypes_used": last["prototypes_used"],
            "pasted_share": last["pasted_share"],
            "seconds_per_step": last["seconds_per_step"],
            "data_wait_share": last["data_wait_share"],
            "seconds": round(time.perf_counter() - start, 1),
            "config_hash": digest,
            "run_id": run.run_id,
        }


def mosaic_sheet(task: PretrainTask) -> np.ndarray:
    """The first mosaic of the run: mixed images over their regions, uint8 [H, W, 3]."""
    batch = next(task.batches(0, 0, 0, 1, torch.device("cpu")))
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


def feature_sheet(task: PretrainTask, checkpoint: Path, frames: int = 4) -> np.ndarray:
    """Frames over their features, the first three principal components as RGB."""
    network, _ = load_network(checkpoint)
    dataset = PreparedDataset(task.data)
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(frames, len(dataset))).astype(int))
    images = [sample.image for sample in dataset.samples(indices.tolist())]
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        features = torch.nn.functional.normalize(network(tensor), dim=1)
    rows = [images, list(colour_features(features.numpy()))]
    return contact_sheet(rows, row_titles=["frames", "features, first three components"])


def as_pictures(images: torch.Tensor) -> list[np.ndarray]:
    """float [N, 3, H, W] in [0, 1] to uint8 [H, W, 3] each."""
    array = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return list(array.cpu().numpy())
