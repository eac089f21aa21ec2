"""Measures of this machine while a command runs, those that MLflow shows as system metrics."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import Any

from cpcdr.runtime.repeat import repeated

A_MEASURE = "system/cpu_utilization_percentage"
"""One that every machine has."""
_SECONDS = 10.0


class Machine:
    """CPU, memory, disk, network and NVIDIA GPUs, measured by MLflow's monitors in a thread.

    MLflow's own thread logs them itself, beside the run: into a store that was deleted meanwhile,
    and not at all once a server was away. Here they wait in ``samples`` for the run to send them.

    Attributes:
        samples: milliseconds since 1970, and the values by name, oldest first.
    """

    def __init__(self) -> None:
        self.samples: deque[tuple[int, dict[str, float]]] = deque()
        self._thread = contextlib.ExitStack()
        self._monitors: list[Any] = []

    def start(self) -> None:
        """Measure from now on, unless MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is false."""
        from mlflow import environment_variables as settings

        wanted = settings.MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
        if wanted.is_set() and not wanted.get():
            return
        self._monitors = _monitors()
        seconds = settings.MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or _SECONDS
        self._thread.enter_context(repeated(self._sample, seconds))

    def stop(self) -> None:
        """Measure no more."""
        self._thread.close()

    def _sample(self) -> None:
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        named = {f"system/{name}": value for name, value in values.items()}
        self.samples.append((int(time.time() * 1000), named))


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(Exception):  # without a GPU, its driver or its package
        monitors.append(GPUMonitor())
    return monitors
