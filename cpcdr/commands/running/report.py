"""The page at the end of ``cpcdr run``: one file with pictures, which opens without a server."""

import html
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cpcdr.commands.prepare import dataset_sheet
from cpcdr.commands.pretrain import mosaic_sheet
from cpcdr.commands.running.plan import Plan, duration
from cpcdr.commands.running.stages import Stages
from cpcdr.dataset import PreparedDataset, layout_of
from cpcdr.depth.plausibility import MEANINGS, plausibility
from cpcdr.frames import open_frames
from cpcdr.frames.pick import spread, spread_frames
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.progress import phase
from cpcdr.segment.load import load_network_for_use
from cpcdr.segment.writers import above
from cpcdr.train.history import read_history
from cpcdr.train.pretrain_task import task_of
from cpcdr.visualize.page import STYLE, picture
from cpcdr.visualize.pictures import Image, contact_sheet, legend
from cpcdr.visualize.plots import curve_figure

_MEASURED = 16
"""Frames whose depth is measured."""
_REASONS = 10
"""Rejected frames that are listed."""


@phase("writing the report")
def write_report(
    path: Path, stages: Stages, plan: Plan, seconds: Mapping[str, float], results: Mapping[str, Any]
) -> None:
    """Write the page.

    Args:
        seconds: that each stage took.
        results: what each stage returned.
    """
    write_atomic(path, "".join(_page(stages, plan, seconds, results)))


def _page(
    stages: Stages, plan: Plan, seconds: Mapping[str, float], results: Mapping[str, Any]
) -> Iterator[str]:
    source = html.escape(stages.prepare.frames)
    yield f"<!doctype html><meta charset=utf-8><title>{source}</title><style>{STYLE}</style>"
    yield f"<h1>{source}</h1>"
    yield "<video src=segmented.mp4 controls muted style='max-width:100%'></video>"
    yield "<p>The video under its clusters: kinds of surface that the network tells apart, without "
    yield "names, as it has seen no label.</p>"
    yield from _times(plan, seconds)
    yield "<h2>Clusters</h2>" + picture(cluster_sheet(stages), "frames, and their clusters")
    data = PreparedDataset(stages.prepare.out)
    about = f"{data.manifest['picture']}; depth by {data.manifest['depth']}; camera "
    about += f"{data.manifest['intrinsics']}; {data.manifest['regions_per_frame']:.0f} regions a "
    yield f"<h2>Frames, disparity, regions</h2><p>{html.escape(about)}frame.</p>"
    yield picture(dataset_sheet(data), "bright is near; a colour is a region")
    yield from _plausibility(data)
    yield "<h2>What the network is trained on</h2>"
    yield picture(mosaic_sheet(task_of(stages.pretrain)), "regions pasted into other frames")
    yield "<h2>Training</h2>" + picture(_curve(stages), "1 is chance level: nothing learned")
    if "evaluate" in results:
        yield from _scores(results["evaluate"])
    yield from _skipped(stages, plan)
    lines = [shlex.join(["cpcdr", *arguments]) for arguments in next_commands(stages)]
    yield "<h2>Next</h2><pre>" + html.escape("\n".join(lines)) + "</pre>"


def _times(plan: Plan, seconds: Mapping[str, float]) -> Iterator[str]:
    yield "<h2>Time</h2><table><tr><th>stage<th>done<th>planned<th>taken</tr>"
    for name, planned in plan.seconds.items():
        yield f"<tr><td>{name}<td>{plan.amounts[name]}<td>{duration(planned)}"
        yield f"<td>{duration(seconds[name])}</tr>"
    yield "</table>"


def _plausibility(data: PreparedDataset) -> Iterator[str]:
    """The measures of depth without a truth, of some frames."""
    samples = data.samples(spread(len(data), _MEASURED))
    rows = [plausibility(sample.image, sample.disparity) for sample in samples]
    yield f"<p>Depth of {len(rows)} frames, which has no truth to be measured by:</p><table>"
    for name in rows[0]:
        found = [row[name] for row in rows if np.isfinite(row[name])]
        mean = f"{np.mean(found):.3f}" if found else "–"
        yield f"<tr><td>{name}<td class=n>{mean}<td>{html.escape(MEANINGS[name])}</tr>"
    yield "</table>"


def cluster_sheet(stages: Stages, frames: int = 4) -> Image:
    """Frames beside their clusters, over the legend: uint8 [H, W, 3]."""
    network = load_network_for_use(stages.segment.network, stages.segment.clusters)
    source = open_frames(stages.segment.frames, stages.segment.options)
    images = [frame.image for frame in spread_frames(source, (0, 0), frames)]
    sheet = contact_sheet([[image, network.overlay(image)] for image in images])
    return above(sheet, legend(network.names, network.colours, sheet.shape[1]))


def _curve(stages: Stages) -> Image:
    rows = read_history(stages.pretrain.out / "history.jsonl")
    steps, values = [r["step"] for r in rows], [r["loss_over_lnK"] for r in rows]
    return curve_figure(steps, np.array(values, float), "loss / ln K", "step")


def _scores(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>Scores</h2><p>{html.escape(str(result['protocol']))}, {result['frames']} frames; "
    yield "clusters matched to classes.</p><table><tr><th>what<th>mIoU, %</tr>"
    for name, key in (
        ("this network", "miou"),
        ("the untrained network", "untrained_miou"),
        ("k-means on colour and position", "colour_miou"),
    ):
        if result.get(key) is not None:
            yield f"<tr><td>{name}<td class=n>{100 * result[key]:.1f}</tr>"
    yield "</table>"


def _skipped(stages: Stages, plan: Plan) -> Iterator[str]:
    data = stages.prepare.out
    rejected = pq.read_table(data / layout_of(data).rejected).to_pylist()
    yield "<h2>What was left out</h2><ul>"
    yield f"<li>{plan.frames - plan.prepared} of {plan.frames} frames were not prepared, "
    yield f"and {plan.frames - plan.segmented} not segmented, to keep to the time.</li>"
    yield f"<li>{len(rejected)} frames were rejected.</li>"
    for row in rejected[:_REASONS]:
        yield f"<li>{html.escape(row['frame_id'])}: {html.escape(row['reason'])}</li>"
    yield "</ul>"


def next_commands(stages: Stages) -> list[list[str]]:
    """Arguments of ``cpcdr`` to run after this."""
    network, out = ["--network", stages.segment.network], f"{stages.prepare.out.parent}-8h"
    return [
        ["run", stages.prepare.frames, "--hours", "8", "--out", out],
        ["name", *network, "--data", str(stages.prepare.out), "--out", "runs/to-label"],
        ["finetune", *network, "--frames", "camvid:LABELLED", "--evaluate", "camvid:OTHERS"],
        ["export", *network, "--out", "model.onnx"],
    ]
