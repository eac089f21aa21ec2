"""Prepare on Ray Data beside the same functions in plain processes, and its memory."""

import multiprocessing as mp
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pyarrow as pa

from cpcdr.commands.config import BenchmarkConfig
from cpcdr.commands.prepare import prepare
from cpcdr.depth.sources import open_depth
from cpcdr.frames import open_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.pipeline import stream
from cpcdr.prepare.stages import EstimateDepth, GroupRegions, ReadFrames, RunStages, Stage
from cpcdr.runtime.map_frames import blocks_of
from cpcdr.runtime.repeat import repeated
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.config import TrackingConfig

_PART = 16
_FRAMES_A_STREET = 50
_actor: RunStages | None = None


def time_prepare(config: BenchmarkConfig) -> dict[str, Any]:
    """Seconds a frame through Ray Data; the floor is as many plain processes.

    Three pairs of runs, at a fifth of the frames, at all, and at four times as many; the pair with
    the middle ratio is reported. In each the plain processes come first, with as many frames as the
    second run. Start-up is left out: the first blocks, one and a half for each process, do not
    count. Memory is the proportional set size of all processes together, of a Ray that was started
    for that run.
    """
    pairs, peaks = [], {}
    for frames in (config.frames // 5, config.frames, 4 * config.frames):
        with TemporaryDirectory() as folder:
            floor = _plain(*work(config.frames, Path(folder), config.workers), config.workers)
        memory = PeakMemory()
        with TemporaryDirectory() as folder, repeated(memory.update, 2.0), ray_session():
            seconds = on_ray(*work(frames, Path(folder), config.workers), config.workers)
        peaks[str(frames)] = round(memory.mib)
        pairs.append((seconds / floor, seconds, floor))
        print(
            f"{frames} frames: {seconds:.4f} s a frame on Ray, {floor:.4f} in plain processes, "
            f"{memory.mib:.0f} MiB",
            flush=True,
        )
    _, seconds, floor = sorted(pairs)[len(pairs) // 2]
    return {
        "seconds": round(seconds, 5),
        "floor_seconds": round(floor, 5),
        "frames_per_second": round(1 / seconds, 2),
        "ratios": [round(ratio, 3) for ratio, _, _ in pairs],
        "peak_mib_by_frames": peaks,
        "peak_mib": max(peaks.values()),
        "workers": config.workers,
    }


def work(frames: int, out: Path, workers: int) -> tuple[PrepareConfig, list[Stage], Path]:
    """A preparation of synthetic frames, its stages, and the folder of its parts in ``out``."""
    spec = f"synthetic:streets={frames // _FRAMES_A_STREET},frames={_FRAMES_A_STREET}"
    config = PrepareConfig(frames=f"{spec},height=96,width=192", frames_per_part=_PART)
    config = replace(config, workers=workers)
    (out / "data").mkdir(parents=True)
    stages: list[Stage] = [
        ReadFrames(open_frames(config.frames), (0, 0)),
        EstimateDepth(open_depth("ground-truth")),
        GroupRegions(config.regions),
    ]
    return config, stages, out


def street_dataset(folder: Path, spec: str, size: tuple[int, int] = (0, 0)) -> Path:
    """A prepared dataset of synthetic frames, made in this process, at their size or ``size``."""
    none = TrackingConfig("none")
    out = folder / "dataset"
    config = PrepareConfig(frames=spec, size=size, out=out, engine="local", tracking=none)
    prepare(config)
    return config.out


def on_ray(config: PrepareConfig, stages: list[Stage], parts: Path, workers: int) -> float:
    """Seconds a frame through Ray Data, start-up left out."""
    refs = open_frames(config.frames).refs()
    ended = [(time.perf_counter(), t.num_rows) for t in stream(config, stages, parts, refs)]
    return _steady(ended, workers)


def _plain(config: PrepareConfig, stages: list[Stage], parts: Path, workers: int) -> float:
    blocks = blocks_of(open_frames(config.frames).refs(), _PART, workers)
    with mp.get_context("spawn").Pool(workers, _start, (stages, parts)) as pool:
        ended = [(time.perf_counter(), rows) for rows in pool.imap_unordered(_run, blocks)]
    return _steady(ended, workers)


def _start(stages: list[Stage], parts: Path) -> None:
    global _actor
    _actor = RunStages(stages, parts)


def _run(table: pa.Table) -> int:
    assert _actor is not None
    return _actor(table).num_rows


def _steady(ended: list[tuple[float, int]], workers: int) -> float:
    """Seconds a frame between the end of the first blocks and that of the last."""
    timed = ended[workers + workers // 2 :]
    return (timed[-1][0] - timed[0][0]) / sum(rows for _, rows in timed[1:])


class PeakMemory:
    """The most memory that this process and all its children held together, in ``mib``."""

    mib = 0.0

    def update(self) -> None:
        this, total = psutil.Process(), 0
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        self.mib = max(self.mib, total / 2**20)
