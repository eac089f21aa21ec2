"""The whole chain in a few minutes: frames -> dataset -> pre-training -> evaluation -> MLflow.

Without arguments: the synthetic street on this machine. Examples:
  cpcdr demo --seed 1
  cpcdr demo --frames video:drive.mp4 --depth network:runs/depth/checkpoint
"""

from __future__ import annotations

import time
from typing import Any

from cpcdr.commands.config import DemoConfig
from cpcdr.commands.evaluate import evaluate
from cpcdr.commands.prepare import prepare
from cpcdr.commands.pretrain import pretrain
from cpcdr.evaluate.config import EvaluateConfig
from cpcdr.runtime.config import config_hash
from cpcdr.runtime.hold import hold
from cpcdr.runtime.session import ray_session
from cpcdr.train.pretrain_task import task_of


def demo(config: DemoConfig) -> dict[str, Any]:
    """Run the chain, skipping finished stages.

    Returns:
        what ``RESULT`` prints: protocol, scores, counts, run id, paths.
    """
    start = time.perf_counter()
    preparation, training, evaluation = config.stages()
    with hold(config.out), ray_session():
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
            [preparation.identity(), task_of(training).config(), evaluation.frames]
        ),
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(summary(result, scored, evaluation))
    return result


def summary(result: dict[str, Any], scored: dict[str, Any], evaluation: EvaluateConfig) -> str:
    """The result as a printed table."""

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
        f"  predictions  {evaluation.folder / 'predictions.png'}",
        f"  checkpoint   {result['checkpoint']}",
        "  runs         mlflow ui --backend-store-uri sqlite:///mlflow.db",
        "",
    ]
    return "\n".join(lines)
