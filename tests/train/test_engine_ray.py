"""Training under Ray Train: whole, and with a worker killed in the middle."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpcdr.runtime.checkpoint import read_checkpoint
from cpcdr.runtime.errors import InputError
from cpcdr.train.config import EngineConfig, TrainConfig
from cpcdr.train.engine import train
from cpcdr.train.history import read_history
from cpcdr.train.loop import hash_seed
from cpcdr.train.ray_record import record_of

pytestmark = pytest.mark.slow

PER_EPOCH = 8
CONFIG = TrainConfig(epochs=4, lr=0.05, log_every=3, checkpoint_every=5, channels_last=False)
TOTAL = CONFIG.epochs * PER_EPOCH
RAY = EngineConfig(engine="ray", workers=2, cpus_per_worker=0.5)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.layer = nn.Linear(4, 1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        noisy = self.norm(batch["x"]) + 0.1 * torch.randn_like(batch["x"])
        return {"loss": (self.layer(noisy).squeeze(1) - batch["x"].sum(dim=1)).square().mean()}


@dataclass
class LinearTask:
    """Seeded data of (epoch, step, rank). ``pause`` seconds a step leave time to kill a worker."""

    pause: float = 0.0
    kind: str = "linear"
    seed: int = 0

    def build(self) -> nn.Module:
        return Linear()

    def steps_per_epoch(self, world_size: int) -> int:
        return PER_EPOCH

    def batches(
        self, first: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        for number in itertools.count(first):
            epoch, step = divmod(number, PER_EPOCH)
            time.sleep(self.pause)
            generator = torch.Generator().manual_seed(hash_seed(epoch, step, rank))
            yield {"x": torch.randn(8, 4, generator=generator) + rank}

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

    def example(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {}


@pytest.fixture(scope="module", autouse=True)
def _workers_get_this_module_by_value(ray_local: Any) -> Iterator[None]:
    import ray.cloudpickle

    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, _workers_get_this_module_by_value: None
) -> Path:
    """An uninterrupted run of two workers."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert train(LinearTask(), CONFIG, RAY, out) == out / "checkpoint"
    return out


def assert_same_run(out: Path, whole: Path) -> None:
    expected = read_checkpoint(whole / "checkpoint", "linear")[1]
    for name, value in read_checkpoint(out / "checkpoint", "linear")[1].items():
        assert torch.equal(value, expected[name]), name
    assert losses(out) == losses(whole)


def losses(out: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_history(out / "history.jsonl")]


def test_two_workers_finish_with_a_whole_history(whole: Path) -> None:
    expected = sorted({*range(3, TOTAL + 1, 3), *range(5, TOTAL + 1, 5), TOTAL})
    lines = losses(whole)
    assert [step for step, _ in lines] == expected
    assert lines[-1][1] < lines[0][1] / 2


def steps_of(result: Any) -> list[int]:
    return [int(step) for step in result.metrics_dataframe["step"]]


def test_ray_has_a_record_of_all_checkpoints(whole: Path) -> None:
    from ray.train import Result

    result = Result.from_path(str(whole / "ray" / whole.name))
    checkpoints = [*range(5, TOTAL, 5), TOTAL]
    assert steps_of(result) == checkpoints and result.metrics["step"] == TOTAL
    losses_there = dict(losses(whole))
    assert [losses_there[s] for s in checkpoints] == list(result.metrics_dataframe["loss"])
    with result.checkpoint.as_directory() as folder:
        weights = read_checkpoint(Path(folder), "linear")[1]
    expected = read_checkpoint(whole / "checkpoint", "linear")[1]
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    newest = whole / "checkpoints" / f"step-{TOTAL:08d}" / "model.safetensors"
    assert newest.samefile(Path(result.checkpoint.path) / "model.safetensors"), "no second copy"
    kept = [sorted(p.name for p in Path(c.path).iterdir()) for c, _ in result.best_checkpoints]
    whole_ones = [["config.yaml", "model.safetensors", "state.pt"]] * 2
    assert kept == [["config.yaml"]] * (len(checkpoints) - 2) + whole_ones


def test_a_storage_holds_several_trainings_and_a_torn_record_is_begun_anew(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ray.train import Result

    engine = dataclasses.replace(RAY, workers=1, storage_path=f"file://{tmp_path}/storage")
    short = dataclasses.replace(CONFIG, steps=6, checkpoint_every=2)
    for folder in ("a", "b"):
        train(LinearTask(), short, engine, tmp_path / folder / "run")
    first, second = sorted((tmp_path / "storage").glob("run-*"))
    told = [line for line in capsys.readouterr().out.splitlines() if "record" in line]
    assert told == [f"Ray Train's record: {p}" for p in told_order(tmp_path, first, second)]
    assert steps_of(Result.from_path(str(first))) == [2, 4, 6]
    assert steps_of(Result.from_path(str(second))) == [2, 4, 6]

    for record in (first, second):
        next(record.glob("*.json")).write_text("{")  # as a kill in the middle leaves it
    out = tmp_path / "a" / "run"
    shutil.rmtree(out / "checkpoint")
    shutil.rmtree(out / "checkpoints" / "step-00000006")
    train(LinearTask(), short, engine, out)
    assert "Ray's record cannot be read" in capsys.readouterr().out
    record = Path(told_order(tmp_path, first, second)[0])
    assert steps_of(Result.from_path(str(record))) == [6]


def told_order(tmp_path: Path, first: Path, second: Path) -> list[str]:
    """The records of the trainings in ``a`` and ``b``."""
    names = [record_of(tmp_path / f / "run", str(tmp_path / "storage")).name for f in "ab"]
    assert {first.name, second.name} == set(names)
    return [str(tmp_path / "storage" / name) for name in names]


def test_a_killed_worker_costs_no_more_than_time(tmp_path: Path, whole: Path) -> None:
    out, killed, logged = tmp_path / "run", [], []

    def kill_in_the_middle() -> None:
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            time.sleep(0.02)
            with contextlib.suppress(OSError, ValueError):
                progress = json.loads((out / "progress.json").read_text())
                if progress["step"] >= 12:
                    os.kill(progress["pid"], signal.SIGKILL)
                    killed.append(progress["pid"])
                    return

    thread = threading.Thread(target=kill_in_the_middle)
    thread.start()
    train(LinearTask(pause=0.1), CONFIG, RAY, out, lambda metrics, step: logged.append(step))
    thread.join()
    assert killed, "the run was over before its worker could be killed"
    assert os.getpid() not in killed
    assert json.loads((out / "progress.json").read_text())["pid"] not in killed
    assert_same_run(out, whole)
    assert logged == [step for step, _ in losses(out)], "once each, also after the recovery"


def test_the_same_command_after_a_failed_run_goes_on(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "run"
    short = dataclasses.replace(CONFIG, checkpoint_every=5)

    class Dies(LinearTask):
        def batches(self, first: int, *args: Any) -> Iterator[dict[str, Any]]:
            for number, batch in enumerate(super().batches(first, *args), first):
                if number == PER_EPOCH + 6:
                    os._exit(9)
                yield batch

    with pytest.raises(Exception, match=r".+"):
        train(Dies(), short, dataclasses.replace(RAY, max_failures=0), out)
    assert not (out / "checkpoint").exists()
    train(LinearTask(), short, RAY, out)
    assert_same_run(out, whole)


def test_more_workers_than_the_machine_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="99 workers x 1 CPUs do not fit"):
        train(LinearTask(), CONFIG, EngineConfig(workers=99), tmp_path / "run")
