"""Cost of a frame in each stage, and preparation and training on 1, 2 and 4 logical nodes.

`docs/scaling.md` extrapolates from these figures. Logical nodes are Ray nodes of one CPU each on
this machine: they show what Ray and the all-reduces add, not what more hardware would give.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing import spawn

from cpcdr.commands.benchmarks.depth import stored_frames, stored_network
from cpcdr.commands.benchmarks.preparation import on_ray, street_dataset, work
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.depth.config import TINY
from cpcdr.depth.model import DepthModel
from cpcdr.prepare.draft import Draft, row_of
from cpcdr.prepare.parts import write_part
from cpcdr.prepare.stages import EstimateDepth, GroupRegions, ReadFrames, Stage
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import read_yaml, write_yaml
from cpcdr.runtime.session import ray_session
from cpcdr.train.config import EngineConfig, PretrainConfig
from cpcdr.train.engine import train
from cpcdr.train.history import read_history
from cpcdr.train.pretrain_task import task_of

NODES = (1, 2, 4)
_STEPS, _FRAMES, _SIZE = 30, 16, (384, 768)
_REDUCTIONS = 20
_HEAD = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 * 2**20}


def time_scale(config: BenchmarkConfig) -> dict[str, Any]:
    """Seconds a frame on four nodes; the floor is one node's by as many cores as there are.

    Beside it, for each number of nodes: seconds a frame, seconds a training step of as many
    workers, and what one node's figures predict for them.
    """
    cores = os.cpu_count() or 1
    frames: dict[int, float] = {}
    steps: dict[int, float] = {}
    with TemporaryDirectory() as folder:
        data = street_dataset(Path(folder), "synthetic:streets=8,frames=4,height=96,width=192")
        for nodes in NODES:
            with _logical_nodes(nodes):
                frames[nodes] = on_ray(
                    *work(config.frames, Path(folder) / f"{nodes}", nodes), nodes
                )
                steps[nodes] = _step_seconds(data, Path(folder) / f"train-{nodes}", nodes)
            print(f"{nodes} nodes: {frames[nodes]:.4f} s a frame, {steps[nodes]:.3f} s a step")
    predicted = {n: frames[1] / min(n, cores) for n in NODES}
    modules = {name: task_of(c).build() for name, c in PretrainConfig.presets().items()}
    gradients = {  # what each worker contributes to a step's all-reduce, in float32
        name: round(sum(p.numel() for p in module.parameters()) * 4 / 2**20, 1)
        for name, module in modules.items()
    }
    sums = PretrainConfig().model.prototypes
    reduce = {n: _all_reduce_seconds(n, gradients["small"], sums) for n in NODES[1:]}
    return {
        "seconds": round(frames[NODES[-1]], 5),
        "floor_seconds": round(predicted[NODES[-1]], 5),
        "frame_seconds": {n: round(s, 5) for n, s in frames.items()},
        "frame_seconds_predicted": {n: round(s, 5) for n, s in predicted.items()},
        "step_seconds": {n: round(s, 4) for n, s in steps.items()},
        "step_seconds_predicted": {n: round(steps[1] * max(1, n / cores), 4) for n in NODES},
        "cores": cores,
        **_stage_costs(),
        "gradient_mib": gradients,
        "all_reduce_seconds": reduce,
    }


@contextmanager
def _logical_nodes(nodes: int) -> Iterator[None]:
    """A local Ray cluster: ``nodes`` nodes of one CPU each and a head without CPUs."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_HEAD)
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        os.environ["RAY_ADDRESS"] = cluster.address
        with ray_session():
            yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        cluster.shutdown()


def _step_seconds(data: Path, out: Path, workers: int) -> float:
    """Seconds per step over the last steps: one CPU per worker, fixed batch per worker."""
    task = task_of(PretrainConfig(data=data))
    settings = replace(PretrainConfig().train, steps=_STEPS, log_every=10, checkpoint_every=_STEPS)
    train(task, settings, EngineConfig(workers=workers), out, lambda *_: None)
    return float(read_history(out / "history.jsonl")[-1]["seconds_per_step"])


def _stage_costs() -> dict[str, Any]:
    """Core seconds of each stage for a frame stored as JPEG, and bytes of its prepared row."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        (out / "data").mkdir(parents=True)
        source = stored_frames(Path(folder), _SIZE, _FRAMES)
        network = stored_network(Path(folder), DepthModel(TINY))
        stages: dict[str, Stage] = {
            "decode": ReadFrames(source, (0, 0)),
            "depth_width_16": EstimateDepth(network),
            "regions": GroupRegions(RegionConfig()),
        }
        seconds = {}
        drafts = [Draft(ref) for ref in source.refs()]
        for name, stage in stages.items():
            stage(drafts[:1])  # loads and compiles
            start = time.perf_counter()
            drafts = [done for draft in drafts for done in stage([draft])]
            seconds[name] = round((time.perf_counter() - start) / _FRAMES, 5)
        start = time.perf_counter()
        write_part(out, [row_of(draft) for draft in drafts])
        seconds["write"] = round((time.perf_counter() - start) / _FRAMES, 5)
        written = sum(path.stat().st_size for path in (out / "data").iterdir())
    return {"stage_seconds": seconds, "row_bytes": round(written / _FRAMES)}


def _all_reduce_seconds(workers: int, mib: float, prototypes: int) -> dict[str, float]:
    """Of a step's gradients and of one Sinkhorn sum, over Gloo between local processes."""
    with TemporaryDirectory() as folder:
        spawn(_reduce, (workers, mib, prototypes, folder), nprocs=workers)
        return {k: float(v) for k, v in read_yaml(Path(folder) / "seconds.yaml").items()}


def _reduce(rank: int, workers: int, mib: float, prototypes: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=workers)
    seconds = {}
    for name, numbers in (("gradients", int(mib * 2**18)), ("sinkhorn", prototypes)):
        values = torch.ones(numbers)
        distributed.all_reduce(values)
        start = time.perf_counter()
        for _ in range(_REDUCTIONS):
            distributed.all_reduce(values)
        seconds[name] = round((time.perf_counter() - start) / _REDUCTIONS, 6)
    if rank == 0:
        write_yaml(Path(folder) / "seconds.yaml", seconds)
    distributed.destroy_process_group()
