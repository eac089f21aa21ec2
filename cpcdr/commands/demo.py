"""The whole chain in a few minutes on the synthetic street or your frames.

Frames -> dataset -> pre-training -> evaluation -> MLflow. Examples:
  cpcdr demo
  cpcdr demo --seed 1
  cpcdr demo --frames video:drive.mp4 --depth network:runs/depth/checkpoint
"""

import time
from typing import Any

from cpcdr.commands.config import DemoConfig
from cpcdr.commands.evaluate import evaluate
from cpcdr.commands.prepare import prepare
from cpcdr.commands.pretrain import pretrain
from cpcdr.runtime.config import config_hash
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.hold import hold
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.store import tracking_uri
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
    print(
        f"{result['frames']} frames, {result['regions_per_frame']:.0f} regions a frame; "
        f"loss {result['loss_over_lnK']:.2f} ln K; {result['seconds']:.0f} s"
    )
    tracked = config.tracking.tracking != "none"
    end_with(
        {
            "predictions": evaluation.folder / "predictions.png",
            "network": result["checkpoint"],
            "dataset": result["dataset"],
            "runs": f"mlflow ui --backend-store-uri {tracking_uri()}" if tracked else "",
        },
        ["run", "drive.mp4", "--out", "runs/drive"],
    )
    return result
