"""Measure depth: errors against a truth, plausibility without, and motion.

Examples:
  cpcdr evaluate-depth --depth network:runs/depth/checkpoint
  cpcdr evaluate-depth --depth network:runs/depth/checkpoint \\
      --frames kitti-raw:KITTI --truth velodyne: --crop eigen
  cpcdr evaluate-depth --depth network:runs/depth/checkpoint \\
      --frames video:drive.mp4 --options.window=-40: --truth ''
  cpcdr evaluate-depth --depth street --frames images:photos --truth ''
"""

import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.commands.inputs import record_frames, short_name
from cpcdr.depth.metrics import Errors, depth_errors, eigen_crop, mean_errors
from cpcdr.depth.network import Network, load_depth_network
from cpcdr.depth.plausibility import MEANINGS
from cpcdr.depth.source import DepthError, DepthSource, Disparity
from cpcdr.depth.sources import depth_digest, open_depth
from cpcdr.evaluate.config import EvaluateDepthConfig
from cpcdr.evaluate.depth_maps import frames_with_maps
from cpcdr.evaluate.depth_network import motion, photometry
from cpcdr.evaluate.depth_without_truth import measure_plausibility
from cpcdr.frames import FrameRef, FrameSource, open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.runtime.config import config_hash, to_plain, without
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress, phase
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tables import text_table
from cpcdr.runtime.tracking.run import Run, run_in_folder
from cpcdr.train.depth_task import DepthTask
from cpcdr.visualize.pictures import colour_disparity, contact_sheet

_NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")


def evaluate_depth(config: EvaluateDepthConfig) -> dict[str, Any]:
    """Evaluate a depth source; record the results and figures.

    Returns:
        the means of Eigen's errors under their names, those of the baseline as ``baseline_...``;
        the measures of `measure_plausibility`; ``photometric`` by the pose network's own motions,
        ``photometric_aligned`` by motions aligned as in training, and ``identity`` (networks);
        ``trajectory_error`` (of aligned motions) and ``straight_error`` in metres, both root mean
        square, and as ``..._monodepth2`` in that code's convention (networks, frames with poses),
        None where not measured; counts and paths.

    Raises:
        InputError: frames, depth or truth cannot be used.
    """
    start = time.perf_counter()
    source, depth = open_frames(config.frames, config.options), open_depth(config.depth)
    plain = without(config, "tracking", "out")
    inputs = [depth_digest(depth), frames_digest(source)]
    inputs += [depth_digest(open_depth(config.truth, "--truth"))] if config.truth else []
    if config.baseline:
        inputs.append(frames_digest(open_frames(config.baseline, config.options)))
    digest = config_hash({**plain, "inputs": inputs})
    kind, plain, about = "evaluate-depth", to_plain(config), (depth.name, short_name(source.spec))
    with run_in_folder(config.tracking, kind, digest, plain, config.out, about) as run:
        record_frames(run, source, inputs[1], "evaluation")
        result: dict[str, Any] = {"depth": config.depth, "frames": config.frames}
        result |= _against_truth(config, source, depth, run) if config.truth else {}
        measures, sheet = measure_plausibility(source, depth, config.size)
        result |= measures
        if not config.truth:
            run.figure("depth", sheet, config.out)
        if isinstance(depth, Network):
            result |= _of_network(config, source, depth, run)
        run.metrics({k: v for k, v in result.items() if isinstance(v, int | float)}, step=0)
        result |= {"config_hash": digest, "run_id": run.run_id}
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_json(config.out / "report.json", result)
        run.artifact(config.out / "report.json")
        run.describe(result)
        print(_table(result))
        out, given = config.out, ["--frames", config.frames, "--depth", config.depth]
        end_with(
            {"report": out / "report.json", "pictures": out / "depth.png", "run": run.place},
            ["prepare", *given, "--out", "runs/dataset"],
        )
        return result


def _against_truth(
    config: EvaluateDepthConfig, source: FrameSource, depth: DepthSource, run: Run
) -> dict[str, Any]:
    truth = open_depth(config.truth, "--truth")
    others = open_frames(config.baseline, config.options) if config.baseline else source
    mean_map = _mean_map(config, others, truth)
    errors: list[Errors] = []
    baseline_errors: list[Errors] = []
    rejected: list[str] = []
    shown: list[list[NDArray[np.uint8]]] = []
    refs = source.refs()
    with Progress(refs, desc="depth", unit="frame") as bar:
        measured = frames_with_maps(source, [truth, depth], refs, config.size)
        for ref, result in zip(bar, measured, strict=True):
            try:
                if isinstance(result, FrameError):
                    raise result
                frame, (true, predicted) = result
                both = [
                    _errors(config, ref, disparity, true)
                    for disparity in (predicted, _resized(mean_map, true.shape, cv2.INTER_LINEAR))
                ]
            except FrameError as error:
                rejected.append(str(error))
                continue
            errors.append(both[0])
            baseline_errors.append(both[1])
            if (len(errors) - 1) % max(1, len(refs) // 5) == 0:
                shown.append([frame.image, colour_disparity(predicted), colour_disparity(true)])
    if not errors:
        raise InputError(f"{config.frames}: no frame can be evaluated, first error: {rejected[0]}")
    if rejected:
        print(
            f"{len(rejected)} of {len(refs)} frames cannot be evaluated, first error: {rejected[0]}"
        )
    sheet = contact_sheet(shown[:5], ["frame", "disparity", "truth"])
    run.figure("depth", sheet, config.out)
    mean, baseline = mean_errors(errors), mean_errors(baseline_errors)
    means = {n: mean[n] for n in _NAMES} | {f"baseline_{n}": baseline[n] for n in _NAMES}
    return means | {"measured_frames": len(errors), "rejected": len(rejected)}


@phase("averaging the true depth")
def _mean_map(config: EvaluateDepthConfig, source: FrameSource, truth: DepthSource) -> Disparity:
    """The mean disparity map of a source's frames, over valid pixels."""
    total, count, reason = None, None, ""
    for result in frames_with_maps(source, [truth], source.refs(), config.size):
        if isinstance(result, FrameError):
            reason = reason or str(result)
            continue
        (true,) = result[1]
        if total is None or count is None:
            total, count = np.zeros(true.shape), np.zeros(true.shape)
        true = _resized(true, total.shape, cv2.INTER_NEAREST_EXACT)  # invalid pixels must not bleed
        total += true
        count += true > 0
    if total is None or count is None:
        raise InputError(
            f"{source.spec}: no frame has a true depth by --truth {config.truth}; give another, or "
            f"--truth '' for the measures that need none; first error: {reason}"
        )
    mean = total / np.maximum(count, 1)
    return np.where(count > 0, mean, mean[count > 0].mean()).astype(np.float32)


def _errors(
    config: EvaluateDepthConfig, ref: FrameRef, predicted: Disparity, true: Disparity
) -> Errors:
    if config.crop == "eigen":
        true = np.where(eigen_crop(true.shape), true, 0)
    depth = np.where(true > 0, 1 / np.maximum(true, 1e-6), 0)
    predicted = np.maximum(predicted, 1e-6)  # holes count as infinitely far
    try:
        return depth_errors(1 / predicted, depth, max_depth=config.max_depth)
    except InputError as error:
        raise DepthError(f"{ref.frame_id}: {error}") from error


def _resized(disparity: Disparity, shape: tuple[int, ...], interpolation: int) -> Disparity:
    if disparity.shape == shape:
        return disparity
    return cv2.resize(disparity, shape[::-1], interpolation=interpolation).astype(np.float32)


def _of_network(
    config: EvaluateDepthConfig, source: FrameSource, depth: Network, run: Run
) -> dict[str, Any]:
    """Evaluation without ground truth: photometry over triplets, and motion if poses are known."""
    model = load_depth_network(depth.folder)
    try:
        task = DepthTask(model.config, source)
    except InputError as error:  # such as single frames: keep the results so far
        print(f"photometry and motion are not evaluated: {error}")
        return {}
    return photometry(task, model, config.out, run) | motion(task, model, config.out, run)


def _table(result: dict[str, Any]) -> str:
    """The result as a printed table."""
    lines = [""]
    if "abs_rel" in result:
        rows = [
            [title, *(f"{result[prefix + name]:.3f}" for name in _NAMES)]
            for title, prefix in (("measured", ""), ("mean map", "baseline_"))
        ]
        lines += [text_table([["", *_NAMES], *rows], str.rjust)]
    lines += [text_table(_plausibility_rows(result))]
    if "photometric" in result:
        lines += [
            f"  reprojection error {result['photometric']:.4f}, of identity reprojection "
            f"{result['identity']:.4f}: {_below(result['below_identity'])}; with aligned "
            f"motions {result['photometric_aligned']:.4f}"
        ]
    if result.get("trajectory_error") is not None:
        lines += [
            f"  trajectory over 5 frames {result['trajectory_error']:.3f} m RMS, driving straight "
            f"{result['straight_error']:.3f} m; by Monodepth2's convention (RMS / sqrt 5) "
            f"{result['trajectory_error_monodepth2']:.3f} m and "
            f"{result['straight_error_monodepth2']:.3f} m"
        ]
    return "\n".join([*lines, ""])


def _below(fraction: float) -> str:
    return f"{100 * abs(fraction):.1f} % {'below' if fraction >= 0 else 'above'}"


def _plausibility_rows(result: dict[str, Any]) -> list[list[str]]:
    """The measures without truth, each with its meaning."""
    return [
        ["", name, "-" if result[name] is None else f"{result[name]:.3f}", meaning]
        for name, meaning in MEANINGS.items()
    ]
