"""A machine of the cluster is lost in the middle of preparing and of training."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import test_engine_ray as tiny
from mlflow import MlflowClient
from three_nodes import ROOT, Nodes, finished, node_of, progress, wait_until
from two_ranks import train_in_two_processes

from cpcdr.commands.prepare import prepare
from cpcdr.dataset import LAYOUT, PREPARED_SCHEMA, read_table
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.history import read_history

pytestmark = [pytest.mark.slow, pytest.mark.survival]

STREET = "synthetic:streets=4,frames=8,height=64,width=128,seed=3"
FRAMES, PART = 32, 2


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Rows as the index finds them, in the order of their ids."""
    index = pq.read_table(out / LAYOUT.index).to_pylist()
    tables = {
        part: read_table(out, f"data/{part}", PREPARED_SCHEMA).to_pylist()
        for part in {entry["part"] for entry in index}
    }
    return [tables[entry["part"]][entry["row"]] for entry in index]


def test_prepare_goes_on_with_the_machines_that_are_left(nodes: Nodes, tmp_path: Path) -> None:
    nodes.fill()
    whole, out = tmp_path / "whole", tmp_path / "dataset"
    prepare(
        PrepareConfig(
            STREET,
            out=whole,
            engine="local",
            regions=RegionConfig(superpixels=20000),
            tracking=TrackingConfig("none"),
        )
    )
    options = f"--frames {STREET} --frames-per-part {PART} --regions.superpixels 20000"
    script = [str(ROOT / "experiments" / "prepare.py"), "--out", str(out), *options.split()]
    process = nodes.start(*script, "--tracking", "none")
    data = tmp_path / "dataset.partial" / "data"
    wait_until(lambda: len(list(data.glob("[!.]*.parquet"))) >= 3, process, 600)
    nodes.kill(nodes.workers[-1])
    finished(process)
    rows = rows_of(out)
    assert len(rows) == FRAMES
    assert rows == rows_of(whole), "row by row, every column"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training of two workers."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert train_in_two_processes(tiny.LinearTask(), tiny.CONFIG, out) == ["", ""]
    return out


def linear(out: Path, workers: int = 2, pause: float = 0.0) -> list[str]:
    driver = Path(__file__).with_name("linear_driver.py")
    return [str(driver), str(out), str(workers), str(pause)]


def test_machines_that_go_with_and_without_notice_cost_no_more_than_time(
    nodes: Nodes, tmp_path: Path, trained: Path
) -> None:
    nodes.fill()
    out = tmp_path / "run"
    process = nodes.start(
        *linear(out, pause=0.4),
        RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="1",  # Ray's default, which conftest.py switches off
        RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S="0.3",
    )

    def reached(step: int, other_than: int = 0) -> dict[str, Any]:
        found = progress(out)
        return found if found and found["step"] >= step and found["pid"] != other_than else {}

    first = wait_until(lambda: reached(3), process, 400)
    lost = node_of(first["pid"], nodes.workers)
    end = time.monotonic() + 6
    nodes.announce_the_end_of(lost, seconds=6)
    unplanned = wait_until(lambda: unplanned_checkpoints(out), process, 100)
    nodes.add()  # what the autoscaler does when a spot machine is taken away
    wait_until(lambda: time.monotonic() > end + 1, process, 100)
    nodes.kill(lost)
    second = wait_until(lambda: reached(20, first["pid"]), process, 400)
    history = [row["step"] for row in read_history(out / "history.jsonl")]
    nodes.kill(node_of(second["pid"], nodes.workers))
    nodes.add()
    finished(process)
    assert unplanned and progress(out)["pid"] not in (first["pid"], second["pid"])
    assert sorted(set(history)) == history
    tiny.assert_same_run(out, trained)


def unplanned_checkpoints(out: Path) -> list[str]:
    """Those that are there because of a notice: the planned ones come every 5 steps."""
    found = [path.name for path in (out / "checkpoints").glob("step-????????")]
    return [name for name in found if int(name[-8:]) % 5]


def test_a_sweep_loses_no_trial_and_records_each_once(nodes: Nodes, tmp_path: Path) -> None:
    nodes.fill()
    data, out = tmp_path / "data", tmp_path / "search"
    street = "synthetic:streets=4,frames=2,height=64,width=128,seed=7"
    regions, quiet = RegionConfig(superpixels=4000), TrackingConfig("none")
    prepare(PrepareConfig(street, out=data, engine="local", regions=regions, tracking=quiet))
    tiny_network = (
        "--pretrain.frames-per-item 2 --pretrain.model.backbone resnet10 --pretrain.model.width 8 "
        "--pretrain.model.head-channels 32 --pretrain.model.prototypes 64 "
        "--pretrain.loss.pixel-points 50 --pretrain.loss.region-points 50"
    )
    options = f"--evaluate {street} --frames 2 --trials 3 --steps 6 --region-sets 0 {tiny_network}"
    script = str(ROOT / "experiments" / "tune_regions.py")
    process = nodes.start(script, "--data", str(data), "--out", str(out), *options.split())
    ledger = out / "trials.jsonl"
    wait_until(lambda: ledger.exists() and '"report"' in ledger.read_text(), process, 600)
    nodes.kill(nodes.workers[0])
    printed = finished(process)
    found = json.loads(printed[printed.rindex("RESULT ") + len("RESULT ") :])
    assert found["trials"] == 3

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_run(found["run_id"]).info.experiment_id
    parent = f"tags.`mlflow.parentRunId` = '{found['run_id']}'"
    runs = client.search_runs([experiment], parent)
    assert sorted(run.info.run_name for run in runs) == ["trial-0", "trial-1", "trial-2"]
    for run in runs:
        assert run.info.status == "FINISHED"
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "label_free")]
        assert steps == [2, 4, 6][: len(steps)] and steps
