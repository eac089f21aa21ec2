"""How time and memory are measured."""

import resource
import statistics
import time
from collections.abc import Callable

import torch

from cpcdr.commands.config import BenchmarkConfig


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
