"""The worker loop with a tiny task: resuming is exact, whatever is killed and wherever."""

from __future__ import annotations

import dataclasses
import doctest
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import cpcdr.train.optimizer
from cpcdr.runtime.checkpoint import newest_checkpoint, read_checkpoint, read_state, step_folder
from cpcdr.runtime.errors import InputError
from cpcdr.train import loop, optimizer
from cpcdr.train.config import EngineConfig, TrainConfig
from cpcdr.train.engine import train
from cpcdr.train.history import append_history, cut_history, read_history
from cpcdr.train.loop import LocalReporter, hash_seed, train_loop
from cpcdr.train.optimizer import make_optimizer

PER_EPOCH = 5
LOCAL = EngineConfig(engine="local")
CONFIG = TrainConfig(epochs=4, lr=0.05, log_every=2, checkpoint_every=3, channels_last=False)
TOTAL = CONFIG.epochs * PER_EPOCH


class Linear(nn.Module):
    """Linear regression with noise drawn inside, as dropout would."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.norm: nn.Module = nn.BatchNorm1d(4)
        self.noise = 0.1

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        noisy = self.norm(batch["x"]) + self.noise * torch.randn_like(batch["x"])
        error = self.layer(noisy).squeeze(1) - batch["y"]
        return {"loss": error.square().mean(), "epoch_seen": batch["epoch"]}


@dataclass
class LinearTask:
    """Data from (seed, epoch, step, rank). ``stop_before`` raises in the middle of an epoch."""

    slope: float = 1.0
    stop_before: int = -1
    poison: int = -1
    hopeless: int = 0
    kind: str = "linear"
    seed: int = 4

    def build(self) -> nn.Module:
        return Linear()

    def steps_per_epoch(self, world_size: int) -> int:
        return PER_EPOCH

    def batches(
        self, first: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        for number in itertools.count(first):
            epoch, step = divmod(number, PER_EPOCH)
            if number == self.stop_before:
                raise KeyboardInterrupt
            generator = torch.Generator().manual_seed(hash_seed(epoch, step, rank))
            x = torch.randn(8, 4, generator=generator)
            y = self.slope * x.sum(dim=1) + (float("nan") if number == self.poison else 0.0)
            yield {"x": x, "y": y, "epoch": torch.tensor(float(epoch))}

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return [{"params": list(model.parameters())}]

    def after_step(self, model: nn.Module) -> None:
        pass

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {}

    def finish(self, model: nn.Module) -> None:
        pass

    def alarm(self, metrics: dict[str, float], done: float) -> str:
        return f"hopeless at {done:.2f}." if metrics["step"] >= self.hopeless > 0 else ""

    def config(self) -> dict[str, Any]:
        return {"slope": self.slope}

    def example(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {}


def history(out: Path) -> list[dict[str, Any]]:
    """The lines without what depends on the clock."""
    clock = ("seconds_per_step", "data_wait_fraction")
    lines = read_history(out / "history.jsonl")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


def weights(out: Path) -> dict[str, Tensor]:
    return read_checkpoint(out / "checkpoint", "linear")[1]


def assert_same_run(out: Path, whole: Path) -> None:
    expected = weights(whole)
    assert weights(out).keys() == expected.keys()
    for name, value in weights(out).items():
        assert torch.equal(value, expected[name]), name
    assert history(out) == history(whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert train(LinearTask(), CONFIG, LOCAL, out) == out / "checkpoint"
    return out


def test_a_run_learns_and_leaves_its_records(whole: Path) -> None:
    lines = history(whole)
    # A line every 2 steps, and one at each checkpoint (every 3 steps): none spans a checkpoint.
    assert [line["step"] for line in lines][:6] == [2, 3, 4, 6, 8, 9]
    assert lines[-1]["step"] == TOTAL
    assert lines[-1]["loss"] < lines[0]["loss"] / 2
    progress = json.loads((whole / "progress.json").read_text())
    assert (progress["step"], progress["total"]) == (TOTAL, TOTAL)
    assert newest_checkpoint(whole / "checkpoints") == step_folder(whole / "checkpoints", TOTAL)
    assert read_checkpoint(whole / "checkpoint", "linear")[0]["config"] == {"slope": 1.0}


def test_every_epoch_is_seen_in_its_turn(whole: Path) -> None:
    # The released code's persistent workers never saw a new epoch.
    seen = {line["step"]: line["epoch_seen"] for line in history(whole)}
    assert seen[2] == 0
    assert seen[TOTAL] == CONFIG.epochs - 1
    assert seen[6] == 0.5  # the mean of the last step of epoch 0 and the first of epoch 1


@pytest.mark.parametrize("stop", range(1, TOTAL))
def test_stopped_before_any_step_the_result_is_bit_equal(
    tmp_path: Path, whole: Path, stop: int
) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(LinearTask(stop_before=stop), CONFIG, LOCAL, out)
    assert not (out / "checkpoint").exists()
    train(LinearTask(), CONFIG, LOCAL, out)
    assert_same_run(out, whole)


def test_stopped_again_and_again_the_result_is_bit_equal(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "run"
    for stop in (2, 5, 7, 7, 11, 16, 19):
        with pytest.raises(KeyboardInterrupt):
            train(LinearTask(stop_before=stop), CONFIG, LOCAL, out)
    train(LinearTask(), CONFIG, LOCAL, out)
    assert_same_run(out, whole)


def test_a_resumed_run_goes_on_from_its_checkpoint_and_not_from_epoch_0(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(LinearTask(stop_before=14), CONFIG, LOCAL, out)
    asked: list[int] = []

    class Watched(LinearTask):
        def batches(self, first: int, *args: Any) -> Iterator[dict[str, Any]]:
            asked.append(first)
            return super().batches(first, *args)

    train(Watched(), CONFIG, LOCAL, out)
    assert asked == [12]  # the step of the checkpoint; what is read ahead goes on over epochs


def test_a_stale_tail_and_a_half_written_line_leave_no_trace(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(LinearTask(stop_before=11), CONFIG, LOCAL, out)
    path = out / "history.jsonl"
    assert history(out)[-1]["step"] == 10  # after the checkpoint of step 9
    append_history(path, {"step": 11, "loss": 99.0})
    with path.open("a") as file:
        file.write('{"step": 12, "lo')
    train(LinearTask(), CONFIG, LOCAL, out)
    assert_same_run(out, whole)


def test_each_line_is_logged_once_in_order_by_the_command_that_made_it(tmp_path: Path) -> None:
    out, logged = tmp_path / "run", []

    def log(metrics: dict[str, float], step: int) -> None:
        assert "step" not in metrics
        logged.append(step)

    train(LinearTask(), CONFIG, LOCAL, out, log)
    assert logged == [line["step"] for line in history(out)]


@pytest.mark.parametrize("stop", [None, 14, 17])
def test_a_task_finishes_once_before_the_last_checkpoint(tmp_path: Path, stop: int | None) -> None:
    """What it changes then is in that checkpoint, and in none before."""
    finished = []

    class Finishes(LinearTask):
        def finish(self, model: nn.Module) -> None:
            finished.append(model)
            with torch.no_grad():
                model.get_parameter("layer.weight").fill_(7.0)

    out = tmp_path / "run"
    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            train(Finishes(stop_before=stop), CONFIG, LOCAL, out)
        assert not finished
    published = train(Finishes(), CONFIG, LOCAL, out)
    assert len(finished) == 1
    weights = {
        path: read_checkpoint(path, "linear")[1]["layer.weight"]
        for path in [published, *(out / "checkpoints").iterdir()]
    }
    last = {path for path, weight in weights.items() if (weight == 7).all()}
    assert published in last and len(last) == 2 < len(weights)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, whole: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (whole / "checkpoints").rglob("*")}
    train(LinearTask(stop_before=0), CONFIG, LOCAL, whole)
    assert before == {p: p.stat().st_mtime_ns for p in (whole / "checkpoints").rglob("*")}


def test_a_run_folder_of_another_configuration_is_refused(tmp_path: Path) -> None:
    out, short = tmp_path / "run", dataclasses.replace(CONFIG, steps=2)
    train(LinearTask(), short, LOCAL, out)
    with pytest.raises(InputError, match=r"holds a training with other settings: task.slope"):
        train(LinearTask(slope=2.0), short, LOCAL, out)
    with pytest.raises(InputError, match=r"give another --out"):
        train(LinearTask(), dataclasses.replace(short, lr=0.1), LOCAL, out)
    # How often metrics are written is no part of what is trained.
    train(LinearTask(), dataclasses.replace(short, log_every=1), LOCAL, out)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_good_checkpoint(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"loss is nan at step 8; lower --train\.lr"):
        train(LinearTask(poison=7), CONFIG, LOCAL, out)
    newest = newest_checkpoint(out / "checkpoints")
    assert newest == step_folder(out / "checkpoints", 6)
    assert all(t.isfinite().all() for t in read_checkpoint(newest, "linear")[1].values())
    assert not (out / "checkpoint").exists()


def test_a_hopeless_training_stops_with_the_tasks_sentence(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"hopeless at 0\.40"):
        train(LinearTask(hopeless=8), CONFIG, LOCAL, out)
    assert not (out / "checkpoint").exists()


class Held(LinearTask):
    """Held-out errors by checkpoint; the model is set back where one is negative."""

    errors: tuple[float, ...] = (5.0, 3.0, 4.0, 3.5, 2.0, 9.0, 9.0)

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Linear)
        number = round(float(model.checks.item()))
        model.checks += 1
        error = self.errors[number]
        if error < 0:
            torch.nn.init.zeros_(model.layer.weight)
        return {"held_out": abs(error), "restarted": float(error < 0)}

    def build(self) -> nn.Module:
        module = Linear()
        module.register_buffer("checks", torch.zeros(()))
        return module


def test_the_best_checkpoint_on_held_out_data_is_the_result(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(Held(), CONFIG, LOCAL, out)
    assert read_checkpoint(out / "checkpoint", "linear")[0]["step"] == 15  # 2.0 at the fifth
    steps = [p.name[-2:] for p in sorted((out / "checkpoints").glob("step-*"))]
    assert steps[0] == "15" and len(steps) == 3, "the best and the newest two are kept"
    errors = [row["held_out"] for row in history(out) if "held_out" in row]
    assert errors == [*Held.errors[: len(errors)]]


@pytest.mark.parametrize("stop", [None, 4, 10, 11])
def test_training_stops_when_it_no_longer_improves(tmp_path: Path, stop: int | None) -> None:
    out, patient = tmp_path / "run", dataclasses.replace(CONFIG, patience=2)
    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            train(Held(stop_before=stop), patient, LOCAL, out)
    for _ in range(2):  # the second call finds it finished
        train(Held(), patient, LOCAL, out)
        assert history(out)[-1]["step"] == 12  # 3.0 after 6 steps, then 4.0 and 3.5
        assert read_checkpoint(out / "checkpoint", "linear")[0]["step"] == 6


def test_a_restarted_network_forgets_the_optimisers_moments(tmp_path: Path) -> None:
    class Collapses(Held):
        errors = (5.0, -1.0, 4.0, 4.0, 4.0, 4.0, 4.0)

    adam = dataclasses.replace(CONFIG, optimizer="adamw", steps=6)
    train(Collapses(), adam, LOCAL, tmp_path / "run")
    newest = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert read_state(newest)["optimizer"]["state"] == {}
    assert not read_checkpoint(newest, "linear")[1]["layer.weight"].any()


def test_accumulated_batches_are_one_larger_batch(tmp_path: Path) -> None:
    """Plain linear layers have no batch statistics: the mean gradient is that of all samples."""

    class Plain(LinearTask):
        joined = 1

        def build(self) -> nn.Module:
            module = Linear()
            module.norm, module.noise = nn.Identity(), 0.0
            return module

        def steps_per_epoch(self, world_size: int) -> int:
            return 6 // self.joined

        def batches(self, first: int, *args: Any) -> Iterator[dict[str, Any]]:
            for number in itertools.count(first):
                epoch, step = divmod(number, 6 // self.joined)
                numbers = range(step * self.joined, (step + 1) * self.joined)
                generators = [torch.Generator().manual_seed(hash_seed(epoch, n)) for n in numbers]
                x = torch.cat([torch.randn(8, 4, generator=g) for g in generators])
                yield {"x": x, "y": x.sum(dim=1), "epoch": torch.tensor(float(epoch))}

    class Joined(Plain):
        joined = 3

    config = dataclasses.replace(CONFIG, checkpoint_every=2, precision="float32")
    thrice = dataclasses.replace(config, accumulate=3)
    train(Joined(), config, LOCAL, tmp_path / "one")
    train(Plain(), thrice, LOCAL, tmp_path / "three")
    one, three = (
        read_checkpoint(tmp_path / name / "checkpoint", "linear")[1] for name in ("one", "three")
    )
    for name, value in one.items():
        torch.testing.assert_close(three[name], value)
    lines = [read_history(tmp_path / name / "history.jsonl") for name in ("one", "three")]
    assert [row["epoch"] for row in lines[0]] == [row["epoch"] for row in lines[1]]


def test_a_compiled_training_is_the_same_and_may_go_on_uncompiled(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(LinearTask(stop_before=8), dataclasses.replace(CONFIG, compile="yes"), LOCAL, out)
    assert graphs
    train(LinearTask(), CONFIG, LOCAL, out)
    assert_same_run(out, whole)


def test_weights_that_do_not_fit_are_said(tmp_path: Path) -> None:
    class Wide(LinearTask):
        def build(self) -> nn.Module:
            return nn.Linear(9, 9)

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(LinearTask(stop_before=4), CONFIG, LOCAL, out)
    with pytest.raises(InputError, match="does not fit this configuration"):
        train_loop(Wide(), CONFIG, out, LocalReporter(device=torch.device("cpu")))


@pytest.mark.parametrize("change", [{"accumulate": 0}, {"epochs": 0}, {"log_every": 0}])
def test_impossible_configurations_are_said(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_vectors_are_not_decayed_and_groups_keep_their_scale(name: str) -> None:
    model = Linear()
    groups: list[dict[str, Any]] = [
        {"params": list(model.layer.parameters()), "lr_scale": 0.1},
        {"params": list(model.norm.parameters())},
    ]
    made = make_optimizer(groups, dataclasses.replace(CONFIG, optimizer=name))
    for group in made.param_groups:
        matrices = all(p.ndim > 1 for p in group["params"])
        assert group["weight_decay"] == (CONFIG.weight_decay if matrices else 0.0)
        own = {id(p) for p in model.layer.parameters()}
        assert group["lr_scale"] == (0.1 if id(group["params"][0]) in own else 1.0)
    assert sum(len(g["params"]) for g in made.param_groups) == 4


def test_seeds_differ_between_neighbours_and_fit_torch() -> None:
    seeds = [hash_seed(*n) for n in itertools.product(range(10), range(10), range(4))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_history_is_cut_at_the_step(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    cut_history(path, 5)
    for step in (2, 4, 6):
        append_history(path, {"step": step})
    cut_history(path, 4)
    assert [row["step"] for row in read_history(path)] == [2, 4]


def test_the_schedules_example() -> None:
    results = doctest.testmod(cpcdr.train.optimizer)
    assert results.attempted > 0
    assert results.failed == 0
    rates = [cpcdr.train.optimizer.learning_rate(s, 100, 8, 0.1, 1e-5) for s in range(100)]
    assert max(rates) == rates[7] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(1e-5)
    assert all(a <= b for a, b in itertools.pairwise(rates[:8]))
    assert all(a >= b for a, b in itertools.pairwise(rates[7:]))


def test_history_is_strict_json_also_where_a_metric_is_not_finite(tmp_path: Path) -> None:
    out = tmp_path / "run"
    logged: list[dict[str, float]] = []
    with pytest.raises(InputError, match="loss is nan at step 8"):
        train(LinearTask(poison=7), CONFIG, LOCAL, out, lambda metrics, _: logged.append(metrics))

    def strict(text: str) -> Any:
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    lines = [strict(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 8 and lines[-1]["loss"] is None
    assert strict((out / "progress.json").read_text())["loss"] is None
    assert "loss" in logged[0] and "loss" not in logged[-1], "nothing is sent that is no number"


def test_automatic_precision_is_recorded_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, auto = tmp_path / "run", dataclasses.replace(CONFIG, precision="auto")
    monkeypatch.setattr(optimizer, "_computes_bf16", lambda device: True)
    with pytest.raises(KeyboardInterrupt):
        train(LinearTask(stop_before=8), auto, LOCAL, out)
    newest = newest_checkpoint(out / "checkpoints")
    assert newest is not None
    assert read_checkpoint(newest, "linear")[0]["precision"] == "bf16"
    # The rest is done by a device that does not compute in bf16.
    monkeypatch.setattr(optimizer, "_computes_bf16", lambda device: False)
    train(LinearTask(), auto, LOCAL, out)
    assert read_checkpoint(out / "checkpoint", "linear")[0]["precision"] == "bf16"
    same = tmp_path / "bf16"
    train(LinearTask(), dataclasses.replace(CONFIG, precision="bf16"), LOCAL, same)
    assert_same_run(out, same)


def test_the_gradient_of_a_step_is_the_mean_over_accumulated_batches(tmp_path: Path) -> None:
    """Three times the same batch is that batch once; clipping would hide a factor."""

    class Constant(LinearTask):
        def batches(self, first: int, *args: Any) -> Iterator[dict[str, Any]]:
            while True:
                x = torch.arange(8.0)[:, None] / 8 + torch.zeros(8, 4)
                yield {"x": x, "y": x.sum(dim=1), "epoch": torch.tensor(0.0)}

        def build(self) -> nn.Module:
            module = Linear()
            module.norm, module.noise = nn.Identity(), 0.0
            return module

    once = dataclasses.replace(CONFIG, steps=1, checkpoint_every=1, precision="float32")
    thrice = dataclasses.replace(once, accumulate=3)
    for name, config in (("one", once), ("three", thrice)):
        train(Constant(), config, LOCAL, tmp_path / name)
    lines = [read_history(tmp_path / name / "history.jsonl")[-1] for name in ("one", "three")]
    assert lines[0]["grad_norm"] == pytest.approx(lines[1]["grad_norm"], rel=1e-5)
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)


def test_a_group_that_starts_later_stands_still_until_then(tmp_path: Path) -> None:
    seen: list[float] = []

    class Late(LinearTask):
        def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
            assert isinstance(model, Linear)
            late = [model.layer.weight]
            others = [p for p in model.parameters() if p is not model.layer.weight]
            return [{"params": others}, {"params": late, "starts": 0.5}]

        def after_step(self, model: nn.Module) -> None:
            assert isinstance(model, Linear)
            seen.append(float(model.layer.weight.detach().sum()))

    train(Late(), CONFIG, LOCAL, tmp_path / "run")
    assert len(seen) == TOTAL, "after_step is called once after each step"
    assert len(set(seen[: TOTAL // 2])) == 1
    assert len(set(seen[TOTAL // 2 :])) == TOTAL // 2 and seen[TOTAL // 2] != seen[0]


def test_gradients_are_averaged_over_ranks_once_a_step_however_many_batches_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reductions: list[int] = []

    class Counted(nn.parallel.DistributedDataParallel):
        """DDP with a hook that counts the all-reduces of gradients."""

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.register_comm_hook(None, self.count)

        @staticmethod
        def count(_, bucket):  # DDP compares annotations, which are text here, with classes
            reductions.append(bucket.index())
            done: torch.futures.Future[Tensor] = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

    monkeypatch.setattr(loop, "DistributedDataParallel", Counted)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:  # a group of one process, which takes itself for one of two
        config = dataclasses.replace(CONFIG, steps=5, accumulate=3, checkpoint_every=5)
        reporter = LocalReporter(world_size=2, device=torch.device("cpu"))
        assert train_loop(LinearTask(), config, tmp_path, reporter)["alarm"] == ""
    finally:
        dist.destroy_process_group()
    assert reductions == [0] * 5


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_with_a_warning(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(LinearTask(stop_before=14), CONFIG, LOCAL, out)
    newest = newest_checkpoint(out / "checkpoints")
    assert newest == step_folder(out / "checkpoints", 12)
    data = bytearray((newest / "state.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "state.pt").write_bytes(data)
    train(LinearTask(), CONFIG, LOCAL, out)
    said = capsys.readouterr().out
    assert f"warning: {newest}: is damaged; resuming from step-00000009" in said
    assert_same_run(out, whole)


def test_changed_inputs_are_named(tmp_path: Path) -> None:
    out, short = tmp_path / "run", dataclasses.replace(CONFIG, steps=2)
    given = {"frames": "aaaa", "options": {"window": ":3"}}
    train(LinearTask(), short, LOCAL, out, inputs=given)
    train(LinearTask(), short, LOCAL, out, inputs=given)
    with pytest.raises(InputError, match=r"settings: inputs.frames 'aaaa' -> 'bbbb' \(see"):
        train(LinearTask(), short, LOCAL, out, inputs=given | {"frames": "bbbb"})
    with pytest.raises(InputError, match=r"settings: inputs\.options\.window ':3' -> ''"):
        train(LinearTask(), short, LOCAL, out, inputs=given | {"options": {"window": ""}})
