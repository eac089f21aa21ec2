"""How time and memory are measured."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to time: the name comes first on the command line.

    Attributes:
        name: ``regions``, ``prepare``, ``depth``, ``depth-step``, ``copy-paste``, ``loss``,
            ``step``, ``ingest``, ``tune`` or ``scale``.
        repeats: timed repetitions after one warm-up; the median is reported.
        threads: CPU threads.
        workers: processes (prepare).
        frames: frames that are prepared (prepare, scale); prepare also measures memory at a fifth
            and at four times as many.
        device: ``cpu`` or ``cuda`` (depth, depth-step, copy-paste, loss, step and ingest).
        compile: as ``--train.compile`` does (depth-step); the floor stays as it is.
        preset: ``small`` or ``paper`` (depth, depth-step, loss, step and ingest).
    """

    name: str = "copy-paste"
    repeats: int = 5
    threads: int = 1
    workers: int = 2
    frames: int = 1000
    device: str = "cpu"
    compile: bool = False
    preset: str = "small"


def median_seconds(function: Callable[[], object], config: BenchmarkConfig) -> float:
    """Median wall time of a call, after one that is not counted."""
    seconds = []
    for _ in range(config.repeats + 1):
        start = time.perf_counter()
        function()
        if config.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds[1:]), 5)


def resident_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
