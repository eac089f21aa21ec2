"""Train the depth network of --depth street on rendered streets with exact depth.

The package holds its weights already: run this to change the network, or to check ours.

Examples:
  cpcdr train-street
  cpcdr train-street --out runs/longer --train.steps 40000
  cpcdr prepare --frames video:drive.mp4 --depth street:runs/longer/street.safetensors
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.commands.inputs import length_of
from cpcdr.depth.street import PACKAGED, save_street_network
from cpcdr.depth.street_augment import as_camera
from cpcdr.depth.street_shots import SHAPES, Shot, render_shot
from cpcdr.runtime.checkpoint import read_checkpoint
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.device import to_unit_float
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.progress import phase
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.run import run_in_folder
from cpcdr.train.config import TrainStreetConfig
from cpcdr.train.engine import train
from cpcdr.train.street_task import StreetModule, StreetTask
from cpcdr.visualize.pictures import colour_disparity, contact_sheet

_UNSEEN = 1000
"""Added to the seed: streets that are not trained on."""
_MEASURED = 64


def train_street(config: TrainStreetConfig) -> dict[str, Any]:
    """Train or resume; record the run, its figures and the measures on unseen streets.

    Returns:
        ``weights`` (the file for ``--depth street:FILE``), ``checkpoint``, what `measure_styles`
        returns, ``steps``, ``seconds``, ``config_hash``, ``run_id``.

    Raises:
        InputError: training failed, or ``out`` holds another one.
    """
    start = time.perf_counter()
    task = StreetTask(config.street, config.seed)
    digest = config_hash({"task": task.config(), "train": to_plain(config.train)})
    key = config_hash([digest, str(config.out.absolute())])
    about = (f"{config.street.channels} channels", length_of(config.train))
    ray = config.engine.engine == "ray"
    session = ray_session(config.engine.dashboard) if ray else nullcontext()
    with (
        session,
        run_in_folder(config.tracking, "street", key, to_plain(config), config.out, about) as run,
    ):
        run.tags({"cpcdr.config_hash": digest})
        columns = {"image": "uint8[-1,-1,3]"}
        run.dataset("rendered streets", "synthetic:", digest, columns, config.street.shots)
        checkpoint = train(task, config.train, config.engine, config.out, run.metrics)
        module = StreetModule(config.street)
        values, weights = read_checkpoint(checkpoint, "street")
        module.load_state_dict(weights)
        path = config.out / PACKAGED.name
        save_street_network(path, module.network)
        measures, sheet = measure_styles(module.eval(), config.seed + _UNSEEN)
        run.figure("street", sheet, config.out)
        run.artifact(path)
        run.metrics(measures, step=values["step"])
        run.describe(measures)
        print(
            f"{path}: abs_rel {measures['abs_rel']:.3f} on {_MEASURED} frames of unseen streets, "
            f"{measures['abs_rel_camera']:.3f} as cameras record them, "
            f"{measures['abs_rel_painted']:.3f} painted."
        )
        given = ["--frames", "video:drive.mp4", "--depth", f"street:{path}"]
        end_with(
            {"weights": path, "pictures": config.out / "street.png", "run": run.place},
            ["prepare", *given, "--out", "runs/dataset"],
        )
        return {
            "weights": str(path),
            "checkpoint": str(checkpoint),
            **measures,
            "steps": values["step"],
            "seconds": round(time.perf_counter() - start, 1),
            "config_hash": digest,
            "run_id": run.run_id,
        }


def painted(shot: Shot, rng: np.random.Generator) -> Shot:
    """A shot as a painting: flat colours, soft borders; a style that no training shows."""
    return shot._replace(image=np.asarray(cv2.stylization(shot.image), np.uint8))


STYLES: dict[str, Callable[[Shot, np.random.Generator], Shot]] = {
    "": lambda shot, rng: shot,
    "_camera": as_camera,
    "_painted": painted,
}
"""Alterations of the shots that are measured on, by the suffix of the measures' names."""


@phase("measuring depth on unseen streets")
def measure_styles(module: StreetModule, seed: int) -> tuple[dict[str, float], NDArray[np.uint8]]:
    """``abs_rel`` and ``delta1`` on a seed's streets: unaltered, as cameras record them, painted.

    Returns:
        ``abs_rel``, ``delta1``, ``abs_rel_camera`` ..., and a picture of unaltered ones.
    """
    shots = [render_shot(seed, number) for number in range(_MEASURED)]
    measures: dict[str, float] = {}
    for suffix, alter in STYLES.items():
        altered = [alter(s, np.random.default_rng([seed, i])) for i, s in enumerate(shots)]
        measures |= {f"{n}{suffix}": v for n, v in measure(module, altered).items()}
    rows = []
    for shot in [s for s in shots[:16] if s.depth.shape == SHAPES[0]]:
        disparities = [colour_disparity(d) for d in (_disparity(module, shot), 1 / shot.depth)]
        rows.append([shot.image, *disparities])
    return measures, contact_sheet(rows, ["frame", "disparity", "truth"])


def _disparity(module: StreetModule, shot: Shot) -> NDArray[np.float32]:
    image = to_unit_float(torch.from_numpy(shot.image))[None]
    with torch.inference_mode():
        return np.asarray((module.network(image)[0, 0].exp() / shot.focal).numpy(), np.float32)


@torch.inference_mode()
def measure(module: StreetModule, shots: Sequence[Shot]) -> dict[str, float]:
    """Mean ``abs_rel`` and ``delta1`` over shots, on the CPU."""
    errors = []
    for shot in shots:
        image = to_unit_float(torch.from_numpy(shot.image))[None]
        depth = torch.from_numpy(shot.depth)[None, None]
        result = module({"images": image, "depth": depth, "focal": torch.tensor([shot.focal])})
        errors.append([float(result["abs_rel"]), float(result["delta1"])])
    abs_rel, delta1 = np.mean(errors, 0).tolist()
    return {"abs_rel": round(abs_rel, 4), "delta1": round(delta1, 4)}
