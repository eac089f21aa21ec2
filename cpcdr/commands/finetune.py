"""Fine-tune on labelled frames.

From a pre-trained checkpoint, torchvision weights, or scratch.

Examples:
  cpcdr finetune
  cpcdr finetune --frames camvid:CamVid/train --evaluate camvid:CamVid/val \\
      --network runs/pretrain/checkpoint --finetune.fraction 0.125
"""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cpcdr.commands.evaluate import NETWORK
from cpcdr.commands.inputs import length_of, record_frames, record_network, short_name
from cpcdr.evaluate.counting import count_all
from cpcdr.evaluate.figures import prediction_sheet, score_figures
from cpcdr.evaluate.matching import Match, scores
from cpcdr.evaluate.report import class_table, label_remarks
from cpcdr.evaluate.supervised import ClassSegmenter
from cpcdr.frames import Frame, FrameSource, Protocol, get_protocol, open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.frames.pick import spread_frames, usual_size, whole_size
from cpcdr.frames.protocols import evaluation_size
from cpcdr.frames.resize import fit_note
from cpcdr.model.weights import start_digest
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tables import counted
from cpcdr.runtime.tracking.run import Run, run_in_folder
from cpcdr.train.engine import train
from cpcdr.train.finetune_config import FinetuneConfig
from cpcdr.train.finetune_task import FinetuneTask
from cpcdr.train.labelled import chosen_refs, require_labels
from cpcdr.visualize.pictures import Image


def finetune(config: FinetuneConfig) -> dict[str, Any]:
    """Train or resume; score; record.

    Returns:
        ``checkpoint``, ``protocol``, ``miou``, ``accuracy``, ``per_class_iou`` (None for classes
        that are absent), ``labelled_frames``, ``rejected`` (why frames were left out of the
        training, by frame id) ...

    Raises:
        InputError: frames, labels or the start cannot be used.
    """
    start = time.perf_counter()
    source = _labelled(config.frames, config)
    scored = _scored(config, source.protocol) if config.evaluate else None
    task = FinetuneTask(config.finetune, source, config.seed)
    config = replace(config, finetune=task.settings)
    if scored is not None:
        _evaluation_size(config, scored)  # refuses one that the protocol does not take
    _print_frames(source, task)
    settings = config.train
    inputs = {
        "options": to_plain(config.options),
        "frames": frames_digest(source),
        "network": start_digest(task.start),
    }
    scores_of = _scoring(config, scored)
    training = {"task": task.config(), "train": to_plain(settings), "inputs": inputs}
    digest = config_hash({**training, "scores": scores_of})
    key = config_hash([digest, str(config.out.absolute())])
    about = [task.model.backbone, short_name(source.spec), length_of(settings)]
    if config.finetune.fraction < 1:
        about.append(f"{config.finetune.fraction:.3g} of the labels")
    plain = to_plain(config)
    with run_in_folder(config.tracking, "finetune", key, plain, config.out, about) as run:
        record_frames(run, source, inputs["frames"])
        if scored is not None:
            record_frames(run, scored, scores_of["frames"], "evaluation")
        run.tags({"cpcdr.config_hash": digest, "cpcdr.network": config.finetune.network})
        run.tags({"cpcdr.protocol": source.protocol})
        checkpoint = train(task, settings, config.engine, config.out, run.metrics, inputs)
        record_network(run, checkpoint, source.read(task.refs[0]).image)
        result: dict[str, Any] = {
            "checkpoint": str(checkpoint),
            "network": config.finetune.network,
            "labelled_frames": len(task.refs),
            "rejected": task.rejected,
            "protocol": source.protocol,
            "data": {"frames": config.frames, "evaluate": config.evaluate},
            "config_hash": digest,
            "run_id": run.run_id,
        }
        if scored is not None:
            result |= _score(config, checkpoint, scored, run)
            print(class_table(result))
        result["seconds"] = round(time.perf_counter() - start, 1)
        run.describe(result)
        write_json(config.out / "report.json", result)
        _end(config.out, checkpoint, run)
        return result


def _scoring(config: FinetuneConfig, scored: FrameSource | None) -> dict[str, Any]:
    """What scores depend on besides the network: they are logged once in a run, others need one."""
    own = ("evaluate", "evaluate_size", "window", "flip")
    values = {name: to_plain(getattr(config, name)) for name in own}
    return {**values, "frames": frames_digest(scored) if scored else ""}


def _print_frames(source: FrameSource, task: FinetuneTask) -> None:
    print(
        f"{source.spec}: {counted(len(task.refs), 'labelled frame')}, protocol {source.protocol}."
    )
    if task.rejected:
        first = next(iter(task.rejected.values()))
        print(f"{counted(len(task.rejected), 'labelled frame')} left out; first error: {first}")
    print(f"{source.spec}: {fit_note(usual_size(source), task.settings.size)}.")


def _end(out: Path, checkpoint: Path, run: Run) -> None:
    network = ["--network", checkpoint]
    end_with(
        {"network": checkpoint, "report": out / "report.json", "run": run.place},
        ["segment", *network, "--frames", "video:drive.mp4", "--out", "segmented.mp4"],
        ["export", *network, "--out", "model.onnx"],
    )


def _labelled(spec: str, config: FinetuneConfig) -> FrameSource:
    """A source of labelled frames under the protocol that is asked for."""
    source = open_frames(spec, config.options, config.protocol)
    chosen_refs(source, 1.0)  # refuses missing labels before training
    return source


def _scored(config: FinetuneConfig, protocol: str) -> FrameSource:
    """The frames to score on, checked before training."""
    source = _labelled(config.evaluate, config)
    if source.protocol != protocol:
        raise InputError(
            f"{config.evaluate}: has labels of protocol {source.protocol}, but {config.frames} of "
            f"{protocol}; evaluate on labels of the protocol that is trained on."
        )
    require_labels(source)
    return source


def _evaluation_size(config: FinetuneConfig, source: FrameSource) -> tuple[int, int]:
    protocol, whole = get_protocol(source.protocol), whole_size(source, config.finetune.size)
    return evaluation_size(protocol, config.evaluate_size, whole, "--evaluate-size")


def _score(
    config: FinetuneConfig, checkpoint: Path, source: FrameSource, run: Run
) -> dict[str, Any]:
    """Scores of the network on the frames of ``source``, with figures, as part of the result."""
    protocol = get_protocol(source.protocol)
    size = _evaluation_size(config, source)
    print(f"{source.spec}: {fit_note(usual_size(source), size)}.")
    segmenter = ClassSegmenter(checkpoint, config.window, config.flip)
    engine = "local" if config.engine.engine == "local" else "ray"
    totals = count_all(engine, source, size, {NETWORK: segmenter}, len(protocol.classes))
    score = scores(totals[NETWORK])
    for remark in label_remarks(totals[NETWORK].sum(0), protocol, source.spec):
        print(remark)
    for figure, image in score_figures(totals[NETWORK], protocol).items():
        run.figure(figure, image)
    sheet = _predictions(segmenter, spread_frames(source, size, 5), protocol)
    run.figure("predictions", sheet, config.out)
    run.metrics({"miou": score.miou, "accuracy": score.accuracy}, step=0)
    ious = zip(protocol.classes, score.per_class_iou.tolist(), strict=True)
    return {
        "miou": score.miou,
        "accuracy": score.accuracy,
        "per_class_iou": {k: None if math.isnan(v) else v for k, v in ious},
        "absent_classes": [protocol.classes[i] for i in score.absent],
        "evaluated_frames": int(totals["frames"]),
        "evaluate_size": list(size),
    }


def _predictions(segmenter: ClassSegmenter, frames: list[Frame], protocol: Protocol) -> Image:
    segmenter.load()
    labels = [segmenter.segment(frame.image[None])[0] for frame in frames]
    classes = len(protocol.classes)
    return prediction_sheet(
        frames, labels, protocol, Match(np.arange(classes), classes, "supervised")
    )
