"""One rank's error ends all ranks at once, with its sentence: bare processes, and under Ray.

Run as a script, this file is one of two bare processes: ``FOLDER RANK KIND``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.ranks import together
from cpcdr.train.config import EngineConfig, TrainConfig
from cpcdr.train.engine import train
from cpcdr.train.loop import train_loop

SENTENCE = "drive/00000007: is no image; delete the file."
CONFIG = TrainConfig(steps=12, lr=0.05, log_every=3, checkpoint_every=5, channels_last=False)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if "fails" in batch:
            raise ZeroDivisionError("in the network")
        return {"loss": (self.layer(batch["x"]) - 1).square().mean()}


@dataclass
class Failing:
    """Rank 1 raises ``kind`` in its eighth batch; a note of the time goes into ``folder``."""

    folder: Path
    error: str = "frame"
    kind: str = "linear"
    seed: int = 0

    def build(self) -> nn.Module:
        return Linear()

    def steps_per_epoch(self, world_size: int) -> int:
        return 12

    def batches(
        self, first: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        for step in range(first, 13):
            if step == 7 and rank == 1:
                with (self.folder / "raised").open("a") as file:
                    file.write(f"{time.time()}\n")
                if self.error == "forward":
                    yield {"fails": torch.zeros(1)}
                raise FrameError(SENTENCE) if self.error == "frame" else ZeroDivisionError("oh")
            yield {"x": torch.full((8, 4), float(step))}

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return [{"params": list(model.parameters())}]

    def after_step(self, model: nn.Module) -> None:
        pass

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {}

    def finish(self, model: nn.Module) -> None:
        pass

    def alarm(self, metrics: dict[str, float], done: float) -> str:
        return ""

    def config(self) -> dict[str, Any]:
        return {}


@dataclass
class Rank:
    rank: int
    world_size: int = 2
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def report(self, metrics: dict[str, float]) -> None:
        pass


def test_one_process_agrees_with_itself() -> None:
    def fails() -> None:
        raise FrameError(SENTENCE)

    assert together(lambda: 3) == 3
    with pytest.raises(FrameError, match=SENTENCE):
        together(fails)


def worker(folder: Path, rank: int, kind: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2
    )
    task = Failing(folder, kind)
    try:
        train_loop(task, CONFIG, folder / "run", Rank(rank))
    except (InputError, RuntimeError, ZeroDivisionError) as error:
        (folder / f"said-{rank}").write_text(f"{type(error).__name__}: {error}\n{time.time()}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frame", "bug"])
def test_two_processes_end_with_the_sentence_of_one(tmp_path: Path, kind: str) -> None:
    (tmp_path / "run").mkdir()
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank), kind]) for rank in range(2)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0]
    ends = [(tmp_path / f"said-{rank}").read_text().splitlines() for rank in range(2)]
    raised = float((tmp_path / "raised").read_text())
    assert max(float(when) for _, when in ends) - raised < 10
    said = [sentence for sentence, _ in ends]
    if kind == "frame":
        assert said == [f"InputError: {SENTENCE}", f"FrameError: {SENTENCE}"]
    else:
        assert said == [
            "RuntimeError: worker 1 failed: ZeroDivisionError: oh",
            "ZeroDivisionError: oh",
        ]


@contextmanager
def pickled_by_value() -> Iterator[None]:
    """Ray's workers cannot import this module: what it defines travels whole."""
    import ray.cloudpickle

    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.slow
def test_two_ray_workers_end_with_the_sentence_and_are_not_tried_again(
    tmp_path: Path, ray_local: Any
) -> None:
    engine = EngineConfig(engine="ray", workers=2, cpus_per_worker=0.5)
    with pickled_by_value(), pytest.raises(InputError, match=SENTENCE):
        train(Failing(tmp_path), CONFIG, engine, tmp_path / "run")
    raised = (tmp_path / "raised").read_text().split()
    assert len(raised) == 1, "an error that retrying cannot mend is not tried again"
    waited = time.time() - float(raised[0])
    print(f"the sentence came {waited:.1f} s after the error")
    assert waited < 30


@pytest.mark.slow
def test_an_error_inside_the_network_of_one_ray_worker_ends_all(
    tmp_path: Path, ray_local: Any
) -> None:
    engine = EngineConfig(engine="ray", workers=2, cpus_per_worker=0.5, max_failures=0)
    with pickled_by_value(), pytest.raises(Exception, match="in the network"):
        train(Failing(tmp_path, "forward"), CONFIG, engine, tmp_path / "run")
    waited = time.time() - float((tmp_path / "raised").read_text().split()[0])
    print(f"the sentence came {waited:.1f} s after the error")
    assert waited < 30, "the other worker is not left in its all-reduce"


if __name__ == "__main__":
    worker(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    os._exit(0)  # Gloo's threads may abort the exit of a process whose peer has left.
