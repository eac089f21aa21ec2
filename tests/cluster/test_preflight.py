"""A start that could only wait is refused, with the arithmetic in the sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import test_engine_ray as tiny
import yaml
from three_nodes import ROOT

from cpcdr.commands.prepare import prepare
from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime import session
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.session import how_many_fit, machines_of_file, refuse_what_never_fits
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import EngineConfig
from cpcdr.train.engine import train, workers_of


def test_a_bundle_never_spans_two_machines() -> None:
    machines = [({"CPU": 6.0, "GPU": 2.0}, 3), ({"CPU": 64.0}, 1)]
    assert how_many_fit(machines, {"CPU": 4.0}) == 3 + 16
    assert how_many_fit(machines, {"CPU": 4.0, "GPU": 1.0}) == 3
    assert how_many_fit(machines, {"CPU": 0.1}) == 3 * 60 + 640, "no rounding error"
    assert how_many_fit(machines, {"GPU": 3.0}) == 0
    assert how_many_fit([], {"CPU": 1.0}) == 0


def test_a_cluster_file_says_what_can_come() -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    # `ray up` fills these in, from what AWS says of the instance type.
    cluster["available_node_types"]["gpu_worker"]["resources"] = {"CPU": 8, "GPU": 1}
    machines = machines_of_file(cluster)
    assert how_many_fit(machines, {"CPU": 1, "GPU": 1}) == 4
    assert how_many_fit(machines, {"CPU": 1}) == 32, "the head has none"
    assert how_many_fit(machines_of_file(cluster | {"max_workers": 2}), {"GPU": 1}) == 2


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        (
            EngineConfig(workers=99),
            r"99 workers x 1 CPUs do not fit the machines, 1 x \(4 CPUs\): room for 4; lower",
        ),
        (
            EngineConfig(workers=2, cpus_per_worker=2.5),
            r"2 workers x 2.5 CPUs do not fit the machines, 1 x \(4 CPUs\): room for 1; lower",
        ),
        (
            EngineConfig(workers=1, gpu="yes"),
            r"1 workers x 1 CPUs \+ 1 GPUs do not fit the machines, 1 x \(4 CPUs, 0 GPUs\): room",
        ),
    ],
    ids=["cpus", "a worker spans no machines", "gpus"],
)
@pytest.mark.slow
def test_workers_that_never_fit_are_refused(
    tmp_path: Path, ray_local: Any, engine: EngineConfig, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        train(tiny.LinearTask(), tiny.CONFIG, engine, tmp_path / "run")


@pytest.mark.slow
def test_a_cluster_that_may_grow_is_waited_for_and_that_is_said(
    ray_local: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    monkeypatch.setenv("HOME", str(tmp_path))
    refuse_what_never_fits("workers", 9, {"CPU": 1.0}, "lower --workers")
    assert "9 workers x 1 CPUs do not fit" in (said := capsys.readouterr().out)
    assert "room for 4; waiting for the cluster to grow" in said
    # With the file of `ray up` on the head, it is known that it will never do.
    types = {"head": {"resources": {"CPU": 0}}, "worker": {"resources": {"CPU": 4}}}
    file = {"max_workers": 2, "head_node_type": "head", "available_node_types": types}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(file))
    with pytest.raises(InputError, match=r"1 x \(0 CPUs\) and 2 x \(4 CPUs\): room for 8; lower"):
        refuse_what_never_fits("workers", 9, {"CPU": 1.0}, "lower --workers")
    refuse_what_never_fits("workers", 8, {"CPU": 1.0}, "lower --workers")
    types["worker"]["resources"] = {}  # the provider `local` does not say what its machines have
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(file))
    refuse_what_never_fits("workers", 9, {"CPU": 1.0}, "lower --workers")
    assert "waiting for the cluster to grow" in capsys.readouterr().out


@pytest.mark.slow
def test_gpus_that_a_cluster_may_start_are_trained_on(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert workers_of(EngineConfig()) == (2, False)
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    monkeypatch.setenv("HOME", str(tmp_path))
    types = {
        "head": {"resources": {"CPU": 0}},
        "gpu_worker": {"resources": {"CPU": 8, "GPU": 2}, "min_workers": 0, "max_workers": 3},
    }
    file = {"max_workers": 4, "head_node_type": "head", "available_node_types": types}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(file))
    assert workers_of(EngineConfig()) == (6, True)
    assert workers_of(EngineConfig(workers=4)) == (4, True)
    assert workers_of(EngineConfig(gpu="no")) == (2, False)


def test_too_little_memory_for_the_object_store_is_said() -> None:
    session.refuse_too_little_memory(300 * 2**20)
    with pytest.raises(InputError, match=r"200 MiB .* 60 MiB, and it needs 75;.*--engine local"):
        session.refuse_too_little_memory(200 * 2**20)


@pytest.mark.slow
def test_prepare_with_gpus_that_are_not_there_is_refused(ray_local: Any, tmp_path: Path) -> None:
    street = "synthetic:streets=1,frames=2,height=64,width=128"
    quiet = TrackingConfig("none")
    config = PrepareConfig(street, out=tmp_path / "dataset", gpus=2, tracking=quiet)
    with pytest.raises(InputError, match=r"0.5 CPUs \+ 1 GPUs do not fit .* take --gpus 0"):
        prepare(config)
