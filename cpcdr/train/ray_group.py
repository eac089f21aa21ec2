"""How the workers of a training under Ray find each other.

PyTorch's own store listens on every interface of its machine and answers whoever reaches it. On one
machine the workers meet in a file instead, which only this user can open.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig

from cpcdr.runtime.session import on_cluster

_RaysBackend: Any = TorchConfig().backend_cls


def torch_config() -> TorchConfig:
    """Ray's own between the machines of a cluster; a file on one's own machine."""
    return TorchConfig() if on_cluster() else _OneMachine()


class _MeetInAFile(_RaysBackend):
    """Called by Ray at every start of the workers, also after one was lost."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Make the group of all workers."""
        self.folder = tempfile.mkdtemp(prefix="cpcdr-group-")  # mode 0700
        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        backend, store = "nccl" if gpus else "gloo", Path(self.folder, "store").as_uri()
        size, seconds = len(worker_group), backend_config.timeout_s
        ray.get(
            [
                worker_group.execute_single_async(rank, _join, backend, store, rank, size, seconds)
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Leave the group."""
        super().on_shutdown(worker_group, backend_config)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class _OneMachine(TorchConfig):
    @property
    def backend_cls(self) -> Any:
        return _MeetInAFile


def _join(backend: str, store: str, rank: int, size: int, seconds: int) -> None:
    for library in ("GLOO", "NCCL"):  # what they listen on asks for no token
        os.environ[f"{library}_SOCKET_IFNAME"] = _loopback()
    timeout = timedelta(seconds=seconds)
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=size, timeout=timeout)


def _loopback() -> str:
    """The name of the interface of 127.0.0.1, such as ``lo``."""
    interfaces = psutil.net_if_addrs().items()
    return next(name for name, all_of in interfaces for a in all_of if a.address == "127.0.0.1")
