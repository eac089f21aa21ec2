import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import open_run

ROOT = Path(__file__).resolve().parents[2]
CONFIG = TrackingConfig()
DEAD = "http://user:secret@127.0.0.1:9"  # the discard port: refuses at once


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database with tables: making them takes seconds, copying them none."""
    from cpcdr.runtime.tracking.store import connect

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}", "other", "key", "name", {})
    return path


@pytest.fixture
def uri(tmp_path, empty_store, monkeypatch):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def stored(run):
    from mlflow import MlflowClient

    return MlflowClient(run.uri).get_run(run.run_id)


def history(run, key):
    from mlflow import MlflowClient

    points = MlflowClient(run.uri).get_metric_history(run.run_id, key)
    return sorted((p.step, p.value) for p in points)


def artifacts(run):
    folder = Path(stored(run).info.artifact_uri.removeprefix("file://"))
    return {str(f.relative_to(folder)): f for f in folder.rglob("*") if f.is_file()}


@pytest.mark.slow
def test_everything_logged_is_stored(uri, tmp_path):
    params = {"train": {"lr": 0.1, "sizes": [1, 2]}, "note": "x" * 9000}
    with open_run(TrackingConfig(run_name="try", parent="abc"), "pretrain", "k", params) as run:
        run.metrics({"loss": np.float32(1.5), "val": {"miou": 0.25, "iou": {"a/b(c)": 0.5}}}, 3)
        run.metrics({"nan": float("nan"), "text": "no", "table": np.ones(3)}, 3)
        run.tags({"cpcdr.checkpoint": tmp_path})
        run.figure("loss/total", np.full((4, 5, 3), (255, 0, 0), np.uint8))
        run.text("config.yaml", "lr: 0.1\n")
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "w.bin").write_bytes(b"1")
        run.artifact(tmp_path / "weights", "model")
        run.dataset("streets", "/a/streets", "0123456789abcdef" * 4, {"image": "binary"}, 7)
    found = stored(run)
    assert found.info.status == "FINISHED" and found.info.run_name == "try"
    assert found.data.metrics == {"loss": 1.5, "val/miou": 0.25, "val/iou/a/b_c_": 0.5}
    assert history(run, "loss") == [(3, 1.5)]
    assert found.data.params["train.lr"] == "0.1" and len(found.data.params["note"]) == 6000
    tags = found.data.tags
    assert tags["cpcdr.run_key"] == "k" and tags["cpcdr.kind"] == "pretrain"
    assert tags["mlflow.parentRunId"] == "abc" and tags["cpcdr.checkpoint"] == str(tmp_path)
    assert tags["cpcdr.torch"] and tags["mlflow.source.git.commit"]
    assert tags["mlflow.source.git.dirty"] in ("true", "false")
    (source,) = found.inputs.dataset_inputs
    assert source.dataset.name == "streets" and source.tags[0].value == "training"
    assert json.loads(source.dataset.profile) == {"num_rows": 7}
    files = {"figures/loss/total.png", "config.yaml", "model/weights/w.bin"}
    files |= {"figures.json"}
    assert files == {name for name in artifacts(run) if not name.startswith("table_images/")}
    (picture,) = json.loads(artifacts(run)["figures.json"].read_bytes())["data"]
    assert picture[0] == "loss/total" and picture[1]["filepath"] in artifacts(run)
    assert (tmp_path / "mlartifacts").is_dir()


@pytest.mark.slow
def test_same_key_is_the_same_run_without_gaps_or_doubles(uri):
    steps = {0: (0, 6), 1: (4, 9), 2: (9, 12)}  # a crash at 6, resumed at its checkpoint of 4
    ids = set()
    for first, last in steps.values():
        run = open_run(CONFIG, "depth", "same", {"lr": 0.1, f"new{first}": 1})
        assert stored(run).info.status == "RUNNING"
        ids.add(run.run_id)
        for step in range(first, last):
            run.metrics({"loss": 1 / (step + 1)}, step)
            run.metrics({"epoch": step // 4}, step) if step % 4 == 3 else None
        run.close()
    assert len(ids) == 1
    assert history(run, "loss") == [(s, 1 / (s + 1)) for s in range(12)]
    assert [s for s, _ in history(run, "epoch")] == [3, 7, 11]
    assert {"lr", "new0", "new4", "new9"} <= set(stored(run).data.params)
    assert open_run(CONFIG, "depth", "it's another", {}).run_id not in ids


@pytest.mark.slow
def test_the_machine_is_measured_while_a_command_runs(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.3")

    def measured(key, seconds):
        with open_run(CONFIG, "depth", key, {}) as run:
            time.sleep(seconds)
        return history(run, "system/cpu_utilization_percentage")

    first = measured("k", 3)
    assert len(first) >= 2 and [step for step, _ in first] == list(range(len(first)))
    again = measured("k", 3)  # the same run goes on where it was
    assert len(again) > len(first) and [step for step, _ in again] == list(range(len(again)))
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    assert not measured("another", 1)


@pytest.mark.slow
def test_measures_of_the_machine_do_not_keep_a_refused_command(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with pytest.raises(InputError), open_run(CONFIG, "pretrain", "new", {}) as run:
        time.sleep(2)
        assert run.flush() and "system/cpu_utilization_percentage" in stored(run).data.metrics
        raise InputError("--data: is not a dataset; make one.")
    assert not runs_of(uri)


@pytest.mark.slow
def test_names_tell_and_a_given_one_counts(uri):
    about = ("resnet18", "drive", "5000 steps")
    run = open_run(CONFIG, "pretrain", "a", {}, about=about)
    assert stored(run).info.run_name == "pretrain resnet18 · drive · 5000 steps"
    run = open_run(TrackingConfig(run_name="mine"), "pretrain", "b", {}, about=about)
    assert stored(run).info.run_name == "mine"


@pytest.mark.slow
def test_repeats_within_one_session_are_skipped_too(uri):
    with open_run(CONFIG, "depth", "k", {}) as run:
        for step in (0, 1, 2, 1, 2, 3):
            run.metrics({"loss": float(step)}, step)
            run.flush() if step == 3 else None
    assert history(run, "loss") == [(s, float(s)) for s in range(4)]


@pytest.mark.slow
def test_many_metrics_go_in_few_requests(uri, monkeypatch):
    with open_run(CONFIG, "depth", "k", {}) as run:
        requests = []
        send = run._connect().log_batch
        monkeypatch.setattr(
            run._connect(), "log_batch", lambda *a, **k: requests.append(k) or send(*a, **k)
        )
        start = time.perf_counter()
        for step in range(300):
            run.metrics({f"m{i}": step for i in range(7)}, step)
        run.flush()
        assert time.perf_counter() - start < 5
    assert len(requests) == 5 and all(len(r["metrics"]) <= 1000 for r in requests)
    assert len(history(run, "m6")) == 300


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (RuntimeError("boom"), "FAILED")]
)
def test_the_status_says_how_it_ended(uri, error, status):
    with pytest.raises(type(error)), open_run(CONFIG, "depth", "k", {}) as run:
        run.metrics({"loss": 1.0}, 0)
        raise error
    found = stored(run)
    assert found.info.status == status and found.data.metrics == {"loss": 1.0}
    if status == "FAILED":
        assert found.data.tags["cpcdr.last_error"] == "RuntimeError: boom"


def runs_of(uri):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(CONFIG.experiment)
    return client.search_runs([experiment.experiment_id])


@pytest.mark.slow
def test_a_refused_command_leaves_the_store_as_it_was(uri):
    refusal = InputError("--data: is not a dataset; make one.")
    with pytest.raises(InputError), open_run(CONFIG, "pretrain", "new", {"lr": 1}) as run:
        run.tags({"cpcdr.dataset": "x"})
        run.figure("mosaic", np.zeros((4, 5, 3), np.uint8))
        raise refusal
    assert not runs_of(uri)
    with open_run(CONFIG, "pretrain", "old", {}) as run:
        run.metrics({"loss": 1.0}, 0)
    with pytest.raises(InputError), open_run(CONFIG, "pretrain", "old", {}):
        raise refusal
    assert [found.info.status for found in runs_of(uri)] == ["FINISHED"]


@pytest.mark.slow
def test_a_command_that_was_refused_in_the_midst_of_its_work_is_recorded(uri):
    for key, work in {
        "measured": lambda run: run.metrics({"loss": 9.0}, 5),
        "copied": lambda run: log_elsewhere(run),
        "parent": lambda run: open_run(TrackingConfig(parent=run.run_id), "trial", "t", {}).close(),
    }.items():
        with pytest.raises(InputError), open_run(CONFIG, "pretrain", key, {}) as run:
            work(run)
            raise InputError("the loss is no number; lower --train.lr.")
        assert stored(run).info.status == "FAILED"
        assert stored(run).info.lifecycle_stage == "active"
        assert "lower --train.lr" in stored(run).data.tags["cpcdr.last_error"]


def log_elsewhere(run):
    copy = pickle.loads(pickle.dumps(run))
    copy.metrics({"loss": 9.0}, 5)
    assert copy.flush()


@pytest.mark.slow
def test_a_pickled_copy_logs_into_the_same_run(uri):
    with open_run(CONFIG, "depth", "k", {"lr": 1}) as run:
        run.metrics({"loss": 0.5}, 0)
        run.flush()
        copy = pickle.loads(pickle.dumps(run))
        copy.metrics({"loss": 0.5}, 0)
        copy.metrics({"loss": 0.25}, 1)
        assert copy.flush() and copy.run_id == run.run_id
    assert history(run, "loss") == [(0, 0.5), (1, 0.25)]


RACER = """
import sys
from cpcdr.runtime.tracking.run import TrackingConfig, open_run
with open_run(TrackingConfig(), "trial", sys.argv[1], {"a": 1}) as run:
    for step in range(20):
        run.metrics({"m": step}, step)
        run.flush()
print(run.run_id)
"""


@pytest.mark.slow
def test_processes_may_open_a_new_store_at_once(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, key],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for key in ("one", "two", "two")
    ]
    outcomes = [racer.communicate(timeout=300) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], outcomes
    ids = [out.strip() for out, _ in outcomes]
    assert ids[1] == ids[2] != ids[0]
    for _, err in outcomes:  # no page about tables; a phase that takes long says so
        assert all(re.fullmatch(r".* \[\d+:\d\d\]", line) for line in err.splitlines()), err
    assert (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_an_unreachable_server_costs_a_warning_and_nothing_else(uri, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    out = tmp_path / "out"
    start = time.perf_counter()
    with open_run(CONFIG, "depth", "k", {"lr": 0.1}, fallback=out) as run:
        for step in range(1200):
            run.metrics({"loss": 1 / (step + 1)}, step)
        run.figure("loss", np.zeros((4, 4, 3), np.uint8))
        assert not run.flush() and run.run_id == ""
    assert time.perf_counter() - start < 10
    texts = [r.getMessage() for r in caplog.records if r.name.startswith("cpcdr")]
    assert len(texts) == 2 and "cannot be reached" in texts[0] and "1202 entries" in texts[1]
    assert "secret" not in "".join(texts)
    (journal,) = out.glob("*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().split("\n") if line]
    assert [line["op"] for line in lines] == ["metric"] * 1200 + ["file", "status"]

    # The server is back, and the command is run again: nothing is missing, the disk is tidy.
    with journal.open("a") as file:
        file.write('\n{"op": "metr')  # torn by a kill
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with open_run(CONFIG, "depth", "k", {"lr": 0.1}, fallback=out) as run:
        run.metrics({"loss": 0.0}, 1200)
    assert [s for s, _ in history(run, "loss")] == list(range(1201))
    roots = {name.partition("/")[0] for name in artifacts(run)}
    assert roots == {"figures", "figures.json", "table_images"}
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back(uri, tmp_path, monkeypatch, caplog):
    run = open_run(CONFIG, "depth", "k", {}, fallback=tmp_path / "out")
    client = run._connect()
    send = client.log_batch

    def gone(*arguments, **named):
        raise ConnectionError("gone")

    monkeypatch.setattr(client, "log_batch", gone)
    for step in range(3):
        run.metrics({"loss": 1.0}, step)
        assert not run.flush()
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert len(journal.read_text().split()) > 3
    monkeypatch.setattr(client, "log_batch", send)
    run.close()
    assert [s for s, _ in history(run, "loss")] == [0, 1, 2] and not journal.exists()
    assert stored(run).info.status == "FINISHED"
    assert len([r for r in caplog.records if "reached" in r.getMessage()]) == 1


def test_without_fallback_the_loss_is_said(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with open_run(CONFIG, "depth", "k", {}) as run:
        run.metrics({"loss": 1.0}, 0)
        run.text("a.txt", "a")
        spool = run._outbox.spool
    assert "3 entries are lost" in caplog.text and not spool.exists()


def test_none_records_nothing_and_imports_no_mlflow(tmp_path):
    code = """
import sys, numpy as np
from pathlib import Path
from cpcdr.runtime.tracking.run import TrackingConfig, open_run
with open_run(TrackingConfig(tracking="none"), "depth", "k", {}, Path("out")) as run:
    run.metrics({"a": 1}, 0); run.tags({"a": 1}); run.text("a", "b")
    run.dataset("x", "/x", "h", {}, 1); run.describe({"a": 1})
    run.figure("f", np.zeros((2, 2, 3), np.uint8)); assert run.flush()
assert run.run_id == run.uri == ""
assert not {"mlflow", "ray", "torch"} & set(sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_bad_input_is_said(uri, tmp_path, monkeypatch):
    with open_run(CONFIG, "depth", "k", {}) as run, pytest.raises(InputError, match="nowhere"):
        run.artifact(tmp_path / "nowhere")
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("cpcdr").experiment_id)
    with pytest.raises(InputError, match="was deleted: restore it"):
        open_run(CONFIG, "depth", "k", {})
    for wrong in (f"file:{tmp_path}/runs", "nonsense://here"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wrong)
        with pytest.raises(InputError, match="set MLFLOW_TRACKING_URI"):
            open_run(CONFIG, "depth", "k", {})
