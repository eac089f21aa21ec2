"""Time a part beside its limit, measured in the same run: cpcdr benchmark NAME.

Examples:
  cpcdr benchmark regions
  cpcdr benchmark copy-paste --device cuda
  cpcdr benchmark step --preset paper --device cuda
  cpcdr benchmark step --preset paper --count
"""

from collections.abc import Callable
from typing import Any

import torch

from cpcdr.commands.benchmarks.copy_paste import time_copy_paste
from cpcdr.commands.benchmarks.decode import time_decode
from cpcdr.commands.benchmarks.depth import time_depth, time_depth_step, time_street
from cpcdr.commands.benchmarks.preparation import time_prepare
from cpcdr.commands.benchmarks.regions import time_regions
from cpcdr.commands.benchmarks.scale import time_scale
from cpcdr.commands.benchmarks.step_parts import counted_step
from cpcdr.commands.benchmarks.timing import resident_mib
from cpcdr.commands.benchmarks.training import time_ingest, time_loss, time_step
from cpcdr.commands.benchmarks.tune import time_tune
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.runtime.config import without
from cpcdr.runtime.errors import InputError

BENCHMARKS: dict[str, Callable[[BenchmarkConfig], dict[str, Any]]] = {
    "regions": time_regions,
    "prepare": time_prepare,
    "depth": time_depth,
    "street": time_street,
    "depth-step": time_depth_step,
    "copy-paste": time_copy_paste,
    "loss": time_loss,
    "step": time_step,
    "ingest": time_ingest,
    "tune": time_tune,
    "scale": time_scale,
    "decode": time_decode,
}


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Run one benchmark; the dict is what ``BENCH`` prints.

    Raises:
        InputError: an unknown name or preset, or an unavailable device.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no GPU here; take --device cpu.")
    if config.compile and config.name not in ("depth-step", "step"):
        raise InputError(
            f"--compile: only depth-step and step compile; run {config.name} without it."
        )
    if config.count and config.name != "step":
        raise InputError(f"--count: only step is counted; run {config.name} without it.")
    torch.set_num_threads(config.threads)
    measured = counted_step(config) if config.count else BENCHMARKS[config.name](config)
    cuda = config.device == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else resident_mib()
    return {
        "name": config.name,
        **measured,
        "ratio": round(measured["seconds"] / measured["floor_seconds"], 3),
        "peak_mib": round(measured.get("peak_mib", peak)),
        "device": torch.cuda.get_device_name() if cuda else f"cpu, {config.threads} threads",
        "config": without(config, "name", "device"),
    }
