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
        wait_for(torch.device(config.device))
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds[1:]), 5)


def steady_seconds(function: Callable[[], object], config: BenchmarkConfig) -> float:
    """Wall time of a call among others that nobody waits for, as in training.

    The median of three runs of ``repeats`` calls, after one that is not counted: what was read
    ahead is used up in it.
    """
    if config.device == "cpu":
        return median_seconds(function, config)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(config.repeats):
            function()
        wait_for(torch.device(config.device))
        seconds.append((time.perf_counter() - start) / config.repeats)
    return round(statistics.median(seconds[1:]), 5)


def wait_for(device: torch.device) -> None:
    """Until a GPU has done everything; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def resident_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
