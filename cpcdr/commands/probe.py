"""Probe frozen features: linear classifiers, neighbours, k-means, few labels.

Example:
  cpcdr probe --network runs/pretrain/checkpoint \\
      --frames camvid:CamVid/train --evaluate camvid:CamVid/val
"""

import time
from dataclasses import replace
from typing import Any

from cpcdr.commands.inputs import record_frames, record_network, short_name
from cpcdr.evaluate.config import ProbeConfig
from cpcdr.evaluate.probe_head import save_probe
from cpcdr.evaluate.score_networks import score_networks, scores_table
from cpcdr.evaluate.segmenters import open_network, trained_with
from cpcdr.frames import get_protocol, open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.frames.pick import spread_frames, usual_size, whole_size
from cpcdr.frames.protocols import evaluation_size
from cpcdr.frames.resize import fit_note
from cpcdr.runtime.checkpoint import read_checkpoint, weights_digest
from cpcdr.runtime.config import config_hash, without
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tracking.run import run_in_folder
from cpcdr.runtime.training_folder import usable_checkpoint

_PER_FRAME, _PIXELS = 400, 200_000  # pixels for SGD: per frame, and at most in total


def probe(config: ProbeConfig) -> dict[str, Any]:
    """Fit and score every probe on both networks; mIoU is counted at stride 4.

    Returns:
        ``protocol``, what `NetworkScores.result` returns, each also as ``untrained_...``, and what
        `Floors.result` returns; ``checkpoint``, the ridge probe as a network to use.

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
    data = {"frames": config.frames, "evaluate": config.evaluate}
    result: dict[str, Any] = {"protocol": fitted.protocol, "data": data, "size": list(size)}
    named = (values["config"]["model"]["backbone"], short_name(fitted.spec))
    with run_in_folder(config.tracking, "probe", digest, plain, out, named) as run:
        record_frames(run, fitted, inputs[1])
        record_frames(run, scored, inputs[2], "evaluation")
        networks = {
            prefix: open_network(config.network, trained)
            for prefix, trained in (("", True), ("untrained_", False))
        }
        per_frame = min(_PER_FRAME, max(2, _PIXELS // len(fitted.refs())))
        scores, numbers = score_networks(networks, fitted, scored, size, per_frame, config.seed)
        result |= numbers
        run.metrics(numbers, step=0)
        about = {"protocol": fitted.protocol, "size": list(size), "probe": plain}
        ridge = scores[""].linear["head"].weights
        save_probe(out / "probe", networks[""], ridge, about, values["step"])
        record_network(run, out / "probe", spread_frames(fitted, size, 1)[0].image)
        result |= {"checkpoint": str(out / "probe")}
        result |= {"config_hash": digest, "run_id": run.run_id}
        result["seconds"] = round(time.perf_counter() - start, 1)
        run.describe(result)
        write_json(out / "probes.json", result)
        print(scores_table(result))
        network = ["--network", out / "probe"]
        end_with(
            {"report": out / "probes.json", "network": out / "probe", "run": run.place},
            ["segment", *network, "--frames", config.evaluate, "--out", "runs/seen"],
        )
    return result
