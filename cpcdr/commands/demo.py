"""prepare, pretrain and evaluate one after the other, sized for a laptop's CPU."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpcdr.commands.evaluate import EvaluateConfig, evaluate
from cpcdr.commands.prepare import prepare
from cpcdr.commands.pretrain import pretrain
from cpcdr.frames import FrameOptions
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions import RegionConfig
from cpcdr.runtime.config import config_hash
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.run import TrackingConfig
from cpcdr.train.pretrain_task import SMALL, SMALL_REGIONS, PretrainConfig

UNSEEN_STREETS = 1000
"""The demo evaluates on streets whose seed is this much larger: none is in the training."""


@dataclass(frozen=True)
class DemoConfig:
    """The whole chain on the synthetic street, or on your own frames.

    Attributes:
        frames: ``KIND:PATH``; empty: the synthetic street.
        depth: as in prepare.py; empty: the street's ground truth.
        evaluate: frames to score on; empty: streets that the training has not seen, or, for your
            own frames, those frames themselves.
        size: height and width of the prepared frames.
        steps: optimiser steps of the pre-training.
        out: folder of dataset, checkpoint, report and figures.
        seed: of streets, weights, data order and every random draw.
        options: how your frames are read.
        regions: thresholds of the grouping.
        tracking: where runs are recorded.
    """

    frames: str = ""
    depth: str = ""
    evaluate: str = ""
    size: tuple[int, int] = (96, 192)
    steps: int = SMALL.train.steps
    out: Path = Path("runs/demo")
    seed: int = 0
    options: FrameOptions = field(default_factory=FrameOptions)
    regions: RegionConfig = field(default_factory=lambda: SMALL_REGIONS)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def stages(self) -> tuple[PrepareConfig, PretrainConfig, EvaluateConfig]:
        """The configurations of prepare, pretrain and evaluate.

        Raises:
            InputError: own frames without a depth source.
        """
        if self.frames and not self.depth:
            raise InputError(
                f"{self.frames}: needs --depth as well; train a network on it with "
                "experiments/train_depth.py and give --depth network:OUT/checkpoint."
            )
        shape = f"height={self.size[0]},width={self.size[1]}"
        street = f"synthetic:seed={self.seed},streets=48,frames=4,{shape}"
        unseen = f"synthetic:seed={self.seed + UNSEEN_STREETS},streets=64,frames=1,{shape}"
        out = self.out / (f"seed-{self.seed}" if not self.frames else "own")
        preparation = PrepareConfig(
            frames=self.frames or street,
            depth=self.depth or "ground-truth",
            out=out / "dataset",
            size=self.size,
            options=self.options,
            regions=self.regions,
            tracking=self.tracking,
        )
        training = replace(
            SMALL,
            data=out / "dataset",
            out=out / "pretrain",
            seed=self.seed,
            train=replace(SMALL.train, steps=self.steps),
            tracking=self.tracking,
        )
        evaluation = EvaluateConfig(
            checkpoint=out / "pretrain" / "checkpoint",
            frames=self.evaluate or self.frames or unseen,
            options=self.options if self.frames else FrameOptions(),
            out=out / "evaluation",
            seed=self.seed,
            tracking=self.tracking,
        )
        return preparation, training, evaluation


def demo(config: DemoConfig) -> dict[str, Any]:
    """Run the chain; whatever is finished already is not done again.

    Returns:
        what ``RESULT`` prints: protocol, scores, counts, run id, paths.
    """
    start = time.perf_counter()
    preparation, training, evaluation = config.stages()
    with ray_session():
        print("1/3  prepare: frames -> disparity -> coherent depth regions")
        prepared = prepare(preparation)
        print("2/3  pre-train: dense SwAV on mosaics with copy-pasted regions")
        trained = pretrain(training)
        print("3/3  evaluate: prototypes -> clusters -> classes, on frames not trained on")
        scored = evaluate(evaluation)
    result = {
        "protocol": scored["protocol"],
        "miou": scored["miou"],
        "accuracy": scored["accuracy"],
        "untrained_miou": scored["untrained_miou"],
        "colour_miou": scored["colour_miou"],
        "frames": prepared["frames"],
        "evaluated_frames": scored["frames"],
        "regions_per_frame": prepared["regions_per_frame"],
        "loss_over_lnK": trained["loss_over_lnK"],
        "clusters_used": scored["clusters_used"],
        "run_id": scored["run_id"],
        "pretrain_run_id": trained["run_id"],
        "dataset": prepared["dataset"],
        "checkpoint": trained["checkpoint"],
        "config_hash": config_hash(
            [preparation.identity(), training.task().config(), evaluation.frames]
        ),
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(summary(result, scored, evaluation))
    return result


def summary(result: dict[str, Any], scored: dict[str, Any], evaluation: EvaluateConfig) -> str:
    """What a person reads at the end."""

    def percent(value: float | None) -> str:
        return "   –" if value is None else f"{100 * value:5.1f}"

    lines = [
        "",
        f"{result['frames']} frames, {result['regions_per_frame']:.0f} regions a frame; "
        f"loss {result['loss_over_lnK']:.2f} ln K; {result['seconds']:.0f} s",
        "",
        f"  {'protocol ' + str(result['protocol']):34s} mIoU   accuracy",
        f"  {'pre-trained, no label seen':34s} {percent(result['miou'])}   "
        f"{percent(result['accuracy'])}",
        f"  {'the same network, untrained':34s} {percent(result['untrained_miou'])}   "
        f"{percent(scored['untrained_accuracy'])}",
        f"  {'k-means on colour and position':34s} {percent(result['colour_miou'])}   "
        f"{percent(scored['colour_accuracy'])}",
        "",
        f"  predictions  {evaluation.out / 'predictions.png'}",
        f"  checkpoint   {result['checkpoint']}",
        "  runs         mlflow ui --backend-store-uri sqlite:///mlflow.db",
        "",
    ]
    return "\n".join(lines)
