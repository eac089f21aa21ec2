"""What all tests share: a quiet environment, one local Ray, real data where it is present."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before anything imports torch, ray or mlflow.
for _key, _value in {
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # read once, and tests write videos before cpcdr reads any
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(_key, _value)
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # GPUs' kernels run on tensors of the host
os.environ.pop("RAY_ADDRESS", None)  # never somebody's cluster

from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no process is idle while another does the last of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _own_tracking_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that a test records go into a database of its own, never into the working folder's."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    # What an earlier test of this process set goes before the environment.
    if service := sys.modules.get("mlflow.tracking._tracking_service.utils"):
        monkeypatch.setattr(service, "_tracking_uri", None)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[Any]:
    """One local Ray for the whole test session; `cpcdr.runtime.session.ray_session` joins it."""
    import ray

    from cpcdr.runtime.session import start_local_ray

    start_local_ray(num_cpus=4, include_dashboard=False, object_store_memory=150 * 2**20)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real driving frames in ``shared/data`` beside the repository; not part of the project."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real frames: there is no shared/data folder beside the repository")
    return folder.resolve()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint folder of a tiny network that was never trained."""
    from cpcdr.loss.config import LossConfig
    from cpcdr.model.config import ModelConfig
    from cpcdr.runtime.checkpoint import write_checkpoint
    from cpcdr.runtime.config import to_plain
    from cpcdr.train.pretrain_task import PretrainModule

    model = ModelConfig("resnet10", 8, 16, 32, 16, 30)
    torch.manual_seed(3)
    module = PretrainModule(model, LossConfig())
    values = {"model": to_plain(model), "seed": 3, "dataset": {"hash": "x", "size": [64, 128]}}
    config = {"kind": "pretrain", "config": values}
    return write_checkpoint(tmp_path / "checkpoints", 0, config, module.state_dict(), {})
