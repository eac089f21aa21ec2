"""Probe frozen features: linear classifiers, nearest neighbours, prototypes.

Example:
  cpcdr probe --network runs/pretrain/checkpoint \\
      --frames camvid:CamVid/train --evaluate camvid:CamVid/val
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.evaluate.config import ProbeConfig
from cpcdr.evaluate.probe_head import save_probe
from cpcdr.evaluate.probes import NetworkProbes, grid_labels
from cpcdr.evaluate.segmenters import open_network, trained_with
from cpcdr.frames import IGNORE, FrameSource, fit, get_protocol, open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.frames.pick import usual_size, whole_size
from cpcdr.frames.protocols import evaluation_size
from cpcdr.frames.resize import fit_note
from cpcdr.runtime.checkpoint import CONFIG, WEIGHTS, read_checkpoint, weights_digest
from cpcdr.runtime.config import config_hash, without
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress, phase
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tracking.run import run_in_folder
from cpcdr.runtime.training_folder import usable_checkpoint

_PER_FRAME, _PIXELS = 400, 200_000  # pixels for SGD: per frame, and at most in total


def probe(config: ProbeConfig) -> dict[str, Any]:
    """Fit and score every probe on both networks; mIoU is counted at stride 4.

    Returns:
        ``protocol`` and, each also as ``untrained_...``: ``linear_ridge``, ``linear_sgd``, ``knn``
        (mIoU) and ``prototype_purity``; ``checkpoint``, the ridge probe as a network to use.

    Raises:
        InputError: checkpoint, frames or labels cannot be used.
    """
    start = time.perf_counter()
    config = replace(config, network=usable_checkpoint(config.network))
    values, _ = read_checkpoint(config.network, "pretrain")
    fitted, scored = (open_frames(f, config.options) for f in (config.frames, config.evaluate))
    if not fitted.protocol or fitted.protocol != scored.protocol:
        raise InputError(
            f"{config.frames} and {config.evaluate} have labels of '{fitted.protocol}' and "
            f"'{scored.protocol}'; probes need labels of one protocol."
        )
    trained_size, _ = trained_with(config.network, values)
    whole = whole_size(fitted, trained_size)
    size = evaluation_size(get_protocol(fitted.protocol), config.size, whole)
    for source in (fitted, scored):
        print(f"{source.spec}: {fit_note(usual_size(source), size)}.")
    plain = without(config, "tracking", "out")
    inputs = [weights_digest(config.network), frames_digest(fitted), frames_digest(scored)]
    digest = config_hash({**plain, "training": values["config"], "inputs": inputs})
    out = config.out if config.out is not None else config.network.parent
    result: dict[str, Any] = {"protocol": fitted.protocol}
    with run_in_folder(config.tracking, "probe", digest, plain, out) as run:
        probes = _measured(config, fitted, scored, size)
        for prefix, each in probes.items():
            result |= {prefix + name: value for name, value in each.result().items()}
        run.metrics({k: v for k, v in result.items() if isinstance(v, float)}, step=0)
        trained = probes[""]
        about = {"protocol": fitted.protocol, "size": list(size), "probe": plain}
        ridge = trained.linear["linear_ridge"]
        save_probe(out / "probe", trained.network, ridge, about, values["step"])
        for name in (CONFIG, WEIGHTS):
            run.artifact(out / "probe" / name, "checkpoint")
        result |= {"checkpoint": str(out / "probe")}
        result |= {"config_hash": digest, "run_id": run.run_id}
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_json(out / "probes.json", result)
        network = ["--network", out / "probe"]
        end_with(
            {"report": out / "probes.json", "network": out / "probe", "run": run.place},
            ["segment", *network, "--frames", config.evaluate, "--out", "runs/seen"],
        )
    return result


def _measured(
    config: ProbeConfig, fitted: FrameSource, scored: FrameSource, size: tuple[int, int]
) -> dict[str, NetworkProbes]:
    """The probes of the network and of the untrained one, fitted and scored."""
    classes = len(get_protocol(fitted.protocol).classes)
    per_frame = min(_PER_FRAME, max(2, _PIXELS // len(fitted.refs())))
    probes = {
        prefix: NetworkProbes(
            open_network(config.network, trained), classes, per_frame, config.seed
        )
        for prefix, trained in (("", True), ("untrained_", False))
    }
    for image, labels in labelled_frames(fitted, size):
        for each in probes.values():
            each.fit(image, labels)
    with phase("fitting the probes"):
        for each in probes.values():
            each.finish()
    for image, labels in labelled_frames(scored, size):
        for each in probes.values():
            each.score(image, labels)
    return probes


def labelled_frames(
    source: FrameSource, size: tuple[int, int]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Images [H, W, 3] of ``size`` and labels at stride 4; reports left-out frames at the end.

    Raises:
        InputError: no frame has readable labels.
    """
    refs, left_out, first = source.refs(), 0, ""
    grid = tuple(-(-side // 4) for side in size)
    with Progress(refs, desc="probe", unit="frame", leave=False) as bar:
        for ref in bar:
            try:
                frame = fit(source.read(ref), size)
                if frame.labels is None:
                    raise FrameError(f"{ref.frame_id} has no label map.")
                labels = grid_labels(frame.labels, grid)
                if (labels == IGNORE).all():
                    raise FrameError(f"{ref.label_path or ref.frame_id} labels no pixel.")
            except FrameError as error:
                left_out, first = left_out + 1, first or str(error)
                continue
            yield frame.image, labels
    if left_out == len(refs):
        raise InputError(f"{source.spec}: no labelled frame can be read; first error: {first}")
    if left_out:
        print(f"{source.spec}: {left_out} frames left out; first error: {first}")
