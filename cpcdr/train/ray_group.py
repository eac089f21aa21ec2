"""How the workers of a training under Ray find each other.

PyTorch's own store listens on every interface of its machine and answers whoever reaches it. On one
machine the workers meet in a file instead, which only this user can open.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psutil
import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig

from cpcdr.runtime.session import on_cluster

_RaysBackend: Any = TorchConfig().backend_cls


@contextmanager
def torch_config() -> Iterator[TorchConfig]:
    """Ray's own between the machines of a cluster; a file on one's own machine."""
    if on_cluster():
        yield TorchConfig()
        return
    with TemporaryDirectory(prefix="cpcdr-group-", ignore_cleanup_errors=True) as folder:
        yield _OneMachine(folder=folder)  # of mode 0700


class _MeetInAFile(_RaysBackend):
    """Called by Ray at every start of the workers, also after one was lost."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Make the group of all workers."""
        assert isinstance(backend_config, _OneMachine)
        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        backend, store = "nccl" if gpus else "gloo", Path(backend_config.folder, uuid4().hex)
        size, seconds = len(worker_group), backend_config.timeout_s
        ray.get(
            [
                worker_group.execute_single_async(rank, _join, backend, store, rank, size, seconds)
                for rank in range(size)
            ]
        )


@dataclass
class _OneMachine(TorchConfig):
    folder: str = ""

    @property
    def backend_cls(self) -> Any:
        return _MeetInAFile


def _join(backend: str, store: Path, rank: int, size: int, seconds: int) -> None:
    for library in ("GLOO", "NCCL"):  # what they listen on asks for no token
        os.environ[f"{library}_SOCKET_IFNAME"] = _loopback()
    timeout = timedelta(seconds=seconds)
    dist.init_process_group(
        backend, init_method=store.as_uri(), rank=rank, world_size=size, timeout=timeout
    )


def _loopback() -> str:
    """The name of the interface of 127.0.0.1, such as ``lo``."""
    interfaces = psutil.net_if_addrs().items()
    return next(name for name, all_of in interfaces for a in all_of if a.address == "127.0.0.1")
