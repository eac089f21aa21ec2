"""The end of a study: tables and figures of everything that is finished."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cpcdr.ablate.context import load_context_test
from cpcdr.ablate.figures import context_sheet, feature_sheet, score_bars
from cpcdr.ablate.labelled import LabelledFrames, load_frames
from cpcdr.ablate.report import Summary, csv_table, document, summarise, with_colour
from cpcdr.ablate.trials import StudyPlan
from cpcdr.dataset import read_manifest
from cpcdr.model.segmentation import load_network
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase
from cpcdr.runtime.strict_json import to_json
from cpcdr.runtime.tables import counted, csv_text
from cpcdr.runtime.tracking.run import Run
from cpcdr.visualize.pictures import Image


def conclude(plan: StudyPlan, digest: str, errors: Mapping[str, str], run: Run) -> dict[str, Any]:
    """Write tables and figures into the study's folder and its run, and print the table.

    Args:
        digest: hash of the settings that all trials share.
        errors: of failed trials, by name.

    Returns:
        the study's result.

    Raises:
        InputError: no trial finished.
    """
    results = list(filter(None, map(plan.result, plan.trials)))
    if not results:
        raise InputError(f"{plan.config.out}: no trial finished; see the errors above.")
    rows = with_colour(results)
    summary = summarise(rows)
    manifest, frames = read_manifest(plan.datasets["depth"]), load_frames(plan.material.evaluation)
    probe = load_frames(plan.material.probe) if plan.material.probe else None
    result: dict[str, Any] = {
        "protocol": frames.protocol.name,
        "variants": summary,
        "seeds": plan.seeds,
        "steps": plan.config.steps,
        "trials": len(results),
        "failed": dict(errors),
        "frames": manifest["frames"],
        "evaluated_frames": len(frames),
        "left_out": frames.left_out,
        "absent_classes": frames.absent_classes(),
        "machine": machine(plan),
        "out": str(plan.config.out),
        "config_hash": digest,
        "run_id": run.run_id,
    }
    about = notes(plan, manifest, result) + label_notes(frames, probe, result["absent_classes"])
    about += [f"failed: {name}: {error}" for name, error in errors.items()]
    files = {
        "table.txt": document(summary, about, markdown=False),
        "table.md": document(summary, about, markdown=True),
        "table.csv": csv_table(summary),
        "trials.csv": csv_text(rows),
        "report.json": to_json(result, indent=2) + "\n",
    }
    for name, content in files.items():
        write_atomic(plan.config.out / name, content)
        run.artifact(plan.config.out / name)
    for name, image in figures(plan, summary, about[0]).items():
        run.figure(name, image, plan.config.out)
    for name, metrics in summary.items():
        means = {key: value["mean"] for key, value in metrics.items()}
        # A continued study has means of more trials: a later step, or the first would stay.
        numbers = {key: mean for key, mean in means.items() if mean is not None}
        run.metrics({name: numbers}, step=plan.finished())
    print(f"\n{files['table.txt']}\ntables and figures: {plan.config.out}")
    return result


def notes(plan: StudyPlan, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """The conditions under which the numbers in the tables were measured."""
    config, (height, width) = plan.config, manifest["size"]
    compared = len({trial.variant.name for trial in plan.trials if trial.variant.trained})
    return [
        f"protocol {result['protocol']}, {result['evaluated_frames']} frames of "
        f"{config.scored_on}, clustering {config.clustering}, configuration "
        f"{result['config_hash']}",
        f"{result['frames']} frames to pre-train on: {manifest['source']}, depth "
        f"{manifest['depth']}, {height}x{width} pixels",
        f"{config.steps} steps of one worker each, {2 * config.pretrain.frames_per_item} mixed "
        f"images a step; seeds {', '.join(map(str, plan.seeds))} of weights, order and draws; "
        f"{result['machine']}",
        "in brackets: 95 % t intervals over the seeds, all on the same frames; differences are "
        f"paired by seed; {compared} variants, corrected for multiple comparisons where said",
        "context test: distance between a pasted car's features in two scenes, divided by their "
        "distance from the scene without the car; 0: independent of the scene, 1: scene only",
    ]


def label_notes(
    scored: LabelledFrames, probe: LabelledFrames | None, absent: Sequence[str]
) -> list[str]:
    """What is missing from the labels: frames left out, classes that occur in no frame."""
    lines = []
    for use, frames in (("evaluation", scored), ("linear probe", probe)):
        if frames is not None and frames.left_out:
            first = f"; first error: {frames.reason}" if frames.reason else ""
            lines.append(f"{use}: {counted(frames.left_out, 'frame')} left out{first}")
    if absent:
        lines.append(
            f"no pixel is labelled {', '.join(absent)}: IoU is undefined there, and mIoU is the "
            f"mean over the other {len(scored.protocol.classes) - len(absent)} classes"
        )
    return lines


def machine(plan: StudyPlan) -> str:
    """The machine that the trials ran on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"{device}, {os.cpu_count()} cores, {plan.config.concurrent} trials at a time"


def _value(summary: Summary, variant: str, metric: str, seed: str) -> float | None:
    """A score of one training; None where it has none, as where features are equal everywhere."""
    value: float | None = summary[variant].get(metric, {}).get("values", {}).get(seed)
    return value


@phase("drawing figures")
def figures(plan: StudyPlan, summary: Summary, title: str) -> dict[str, Image]:
    """Scores of all seeds; features and context test for the networks of the first seed."""
    first = str(plan.seeds[0])
    networks = {
        trial.variant.name: load_network(Path(result["checkpoint"]))[0]
        for trial in plan.trials
        if str(trial.seed) == first and (result := plan.result(trial))
    }
    frames = load_frames(plan.material.evaluation)
    drawn = {"scores": score_bars(summary, title), "features": feature_sheet(networks, frames)}
    test = load_context_test(plan.material.context)
    if test is not None:
        scores = {name: _value(summary, name, "context", first) for name in networks}
        drawn["context"] = context_sheet(networks, scores, test)
    return drawn
