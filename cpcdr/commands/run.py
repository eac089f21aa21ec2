"""From a video to a segmented video and a report, in a given time.

Depth -> dataset -> pre-training -> the video under its clusters. Examples:
  cpcdr run drive.mp4 --out runs/drive
  cpcdr run drives/ --hours 8 --depth hf:depth-anything/Depth-Anything-V2-Small-hf
  cpcdr run camvid:CamVid/train --labels camvid:CamVid/val
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpcdr.commands.config import RunConfig
from cpcdr.commands.evaluate import evaluate
from cpcdr.commands.prepare import prepare
from cpcdr.commands.pretrain import pretrain
from cpcdr.commands.running.plan import Plan, duration, measure, plan_for, plan_of
from cpcdr.commands.running.report import next_commands, write_report
from cpcdr.commands.running.stages import Stages, stages_of
from cpcdr.commands.segment import segment
from cpcdr.depth.sources import with_checkpoint
from cpcdr.frames import FrameRef, open_frames
from cpcdr.runtime.checkpoint import weights_digest
from cpcdr.runtime.config import to_plain, without
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.hold import hold
from cpcdr.runtime.map_frames import session_of
from cpcdr.runtime.run_folder import claim
from cpcdr.runtime.strict_json import parse_object, write_json


def run(config: RunConfig) -> dict[str, Any]:
    """Run what is not done yet.

    Returns:
        ``video``, ``report``, ``checkpoint``, ``dataset``, counts, ``miou`` where there are labels,
        ``seconds`` by stage.

    Raises:
        InputError: the video or its depth cannot be used, or ``out`` holds another run.
    """
    config = replace(config, depth=with_checkpoint(config.depth))  # the same in all stages
    stages = stages_of(config)
    refs = open_frames(stages.prepare.frames, config.options).refs()
    if stages.evaluate:
        open_frames(stages.evaluate.frames)  # refused now rather than in an hour
    with hold(config.out):
        claim(config.out, "run.yaml", without(config, "out", "engine", "tracking"), "a run")
        with session_of(config.engine):
            plan = _planned(config, stages, refs)
            stages = plan.applied(stages, len({ref.sequence for ref in refs}))
            results, seconds = _run(stages, config.out)
        report = config.out / "report.html"
        write_report(report, stages, plan, seconds, results)
    places = {"video": results["segment"]["out"], "report": report}
    end_with(places | {"network": stages.segment.network}, *next_commands(stages))
    return {
        "video": results["segment"]["out"],
        "report": str(report),
        "checkpoint": results["pretrain"]["checkpoint"],
        "dataset": results["prepare"]["dataset"],
        "frames": results["prepare"]["frames"],
        "regions_per_frame": results["prepare"]["regions_per_frame"],
        "steps": results["pretrain"]["steps"],
        "loss_over_lnK": results["pretrain"]["loss_over_lnK"],
        "segmented_frames": results["segment"]["frames"],
        "miou": results.get("evaluate", {}).get("miou"),
        "seconds": seconds,
    }


def _planned(config: RunConfig, stages: Stages, refs: Sequence[FrameRef]) -> Plan:
    """The plan of this folder, measured when it is first run."""
    path = config.out / "plan.json"
    if path.exists():
        plan = plan_of(_read(path))
        print(f"The plan of {path}, resumed:\n{plan.table(end=False)}", flush=True)
        return plan
    print("Measuring this machine on a few frames: about a minute.", flush=True)
    start = time.perf_counter()
    speed = measure(stages, config.out)
    spent = time.perf_counter() - start
    whole, scored = bool(config.options.window), 0
    if stages.evaluate:
        scored = len(open_frames(stages.evaluate.frames).refs())
    plan = plan_for(3600 * config.hours - spent, len(refs), speed, whole, scored)
    write_json(path, to_plain(plan))
    print(f"Measured in {duration(spent)}. The plan:\n{plan.table()}", flush=True)
    if spent + plan.total > 1.05 * 3600 * config.hours:
        print(
            f"That is longer than the {duration(3600 * config.hours)} asked for, but the least "
            "that is done."
        )
    return plan


def _run(stages: Stages, out: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """What each stage returns, and the seconds it took when it was done."""
    record = _Record(out / "stages.json")
    record.stage("prepare: depth, regions, dataset", lambda: prepare(stages.prepare))
    trained = record.stage("pretrain: learning from them", lambda: pretrain(stages.pretrain))
    network = weights_digest(Path(trained["checkpoint"]))
    key = network if stages.segment.out.exists() else ""
    record.stage("segment: the video in clusters", lambda: segment(stages.segment), key)
    record.keep("segment", network)
    evaluation = stages.evaluate
    if evaluation is not None:
        record.stage("evaluate: clusters against labels", lambda: evaluate(evaluation))
    return record.results, record.seconds


class _Record:
    """What each stage returned, and how long it took when it was done, in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.results = path, dict[str, Any]()
        self.done = _read(path) if path.exists() else {}

    @property
    def seconds(self) -> dict[str, float]:
        return {name: entry["seconds"] for name, entry in self.done.items()}

    def stage(self, text: str, work: Callable[[], dict[str, Any]], key: str = "") -> Any:
        """Run a stage, which itself skips what it has done; one kept under ``key`` is not run."""
        name, start = text.partition(":")[0], time.perf_counter()
        known = self.done.get(name)
        if known and key and known.get("key") == key:
            self.results[name] = known["result"]
            return known["result"]
        print(f"\n{text}", flush=True)
        result = work()
        seconds = round(time.perf_counter() - start, 1)
        if known is None or key:
            self.done[name] = {"seconds": seconds}
        self.results[name] = self.done[name]["result"] = result
        write_json(self.path, self.done)
        return result

    def keep(self, name: str, key: str) -> None:
        """Have a stage skipped as long as ``key`` stays."""
        self.done[name]["key"] = key
        write_json(self.path, self.done)


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse_object(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: is damaged ({error}); delete it and run this again.") from error
