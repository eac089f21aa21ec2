"""A driver that trains the tiny task of tests/train on the cluster of RAY_ADDRESS."""

from __future__ import annotations

import sys
from pathlib import Path

import ray.cloudpickle

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
import test_engine_ray as tiny

from cpcdr.runtime.errors import InputError
from cpcdr.train.config import EngineConfig
from cpcdr.train.engine import train

if __name__ == "__main__":
    out, workers, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    ray.cloudpickle.register_pickle_by_value(tiny)  # workers cannot import it
    # One failure is all that is allowed: a machine that goes with notice must not count.
    engine = EngineConfig(workers=workers, cpus_per_worker=1.0, max_failures=1)
    try:
        train(tiny.LinearTask(pause), tiny.CONFIG, engine, out)
    except InputError as error:
        sys.exit(f"error: {error}")
