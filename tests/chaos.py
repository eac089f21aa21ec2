"""Kill commands at random moments, run them again, and compare with an undisturbed run.

Every workload is a real command of a few seconds. Its undisturbed run is made once. Then the same
command is started in a folder of its own and killed: its driver, its whole process group, one
worker, or a Ray server process. The command is started again until it succeeds, and its weights,
rows, rejected frames, histories and MLflow records must equal those of the undisturbed run.

Examples:
  python tests/chaos.py --minutes 20
  python tests/chaos.py --kills 6 --only prepare pretrain-local --seed 3
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from mlflow import MlflowClient

from cpcdr.dataset import LAYOUT

ROOT = Path(__file__).resolve().parents[1]
STREET = "synthetic:streets=4,frames=4,height=64,width=128,seed=7"
LONG_STREET = "synthetic:streets=12,frames=8,height=64,width=128,seed=7"
TRAIN = "--train.steps 40 --train.checkpoint-every 4 --train.log-every 2"
SMALL = (
    "--frames-per-item 2 --model.width 8 --model.prototypes 16 --model.head-channels 32 "
    f"--loss.pixel-points 50 --loss.region-points 50 {TRAIN}"
)
MOST_KILLS_OF_A_RUN = 4
RUN_TIMEOUT_S = 600.0
ORPHAN_TIMEOUT_S = 90.0
# What depends on the clock, the process or the folder, not on the seed.
VOLATILE = ("seconds", "wait", "run_id", "per_hour", "per_minute", "time", "checkpoint", "path")


@dataclass(frozen=True)
class Workload:
    """One command: ``cpcdr NAME OPTIONS`` in a folder that holds what ``needs`` made.

    Attributes:
        command: name of the command.
        options: its options, without ``--out``.
        needs: the workload whose output lies in the folder as ``data``.
    """

    command: str
    options: str
    needs: str = ""


WORKLOADS = {
    "prepare": Workload(
        "prepare", f"--frames {LONG_STREET} --frames-per-part 3 --regions.superpixels 4000"
    ),
    "pretrain-local": Workload("pretrain", f"--data data {SMALL} --engine local", "prepare"),
    "pretrain-ray": Workload(
        "pretrain", f"--data data {SMALL} --workers 2 --cpus-per-worker 0.5", "prepare"
    ),
    "train-depth": Workload(
        "train_depth",
        f"--frames {STREET} --depth.height 64 --depth.width 128 {TRAIN} --engine local",
    ),
    "finetune": Workload(
        "finetune",
        f"--frames {STREET} --evaluate {STREET} --finetune.size 64 128 --finetune.batch-size 2 "
        f"{TRAIN} --engine local",
    ),
    "tune-regions": Workload(
        "tune_regions",
        f"--data data --evaluate {STREET} --trials 3 --steps 6 --concurrent 1 --region-sets 8 "
        "--region-frames 2 --frames 4",
        "prepare",
    ),
    "ablate": Workload(
        "ablate",
        "--data data --evaluate synthetic:streets=4,frames=1,height=64,width=128,seed=900 "
        "--variants full no-copy-paste --seeds 0 1 --steps 6 --concurrent 1",
        "prepare",
    ),
}


class Run:
    """One folder in which a workload runs, perhaps several times."""

    def __init__(self, name: str, folder: Path, data: Path | None) -> None:
        self.workload, self.folder = WORKLOADS[name], folder
        folder.mkdir(parents=True)
        if data is not None:
            (folder / "data").symlink_to(data)
        self.log = folder / "log.txt"

    def start(self) -> subprocess.Popen[bytes]:
        """The command in a process group of its own."""
        script = ROOT / "experiments" / f"{self.workload.command}.py"
        arguments = [sys.executable, str(script), "--out", "out"]
        keep = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "CI")}
        path = f"{ROOT}{os.pathsep}{keep.get('PYTHONPATH', '')}"
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*arguments, *self.workload.options.split()],
                cwd=self.folder,
                env={**keep, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self) -> float:
        """Run undisturbed; the seconds it took."""
        start = time.monotonic()
        code = self.start().wait(RUN_TIMEOUT_S)
        assert code == 0, f"{self.folder}: exit code {code}:\n{self.log.read_text()[-2000:]}"
        return time.monotonic() - start


def victims(process: subprocess.Popen[bytes], kind: str) -> list[psutil.Process]:
    """The processes that a kill of this kind ends; empty where there is none of it now."""
    driver = psutil.Process(process.pid)
    children = driver.children(recursive=True)
    if kind == "driver":
        return [driver]
    if kind == "group":
        return [driver, *children]
    names = ("ray::",) if kind == "worker" else ("raylet", "gcs_server")
    found = []
    for child in children:
        try:
            title = " ".join(child.cmdline()) or child.name()
        except psutil.Error:
            continue
        if kind == "worker" and title.startswith(names) and "IDLE" not in title:
            found.append(child)
        if kind == "server" and any(name in child.name() for name in names):
            found.append(child)
    return found


def kill(process: subprocess.Popen[bytes], rng: random.Random) -> str:
    """SIGKILL something of a running command; what it was, or "" where the command has ended."""
    kind = rng.choice(["driver", "group", "worker", "server"])
    try:
        found = victims(process, kind) or victims(process, kind := "driver")
    except psutil.NoSuchProcess:
        return ""
    if process.poll() is not None:
        return ""
    for victim in found if kind == "group" else [rng.choice(found)]:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    return kind


def wait_for_orphans(group: set[int]) -> int:
    """Wait until no process of the killed command is left; how many had to be killed here."""
    deadline = time.monotonic() + ORPHAN_TIMEOUT_S
    while alive := [pid for pid in group if _alive(pid)]:
        if time.monotonic() > deadline:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            return len(alive)
        time.sleep(0.2)
    return 0


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def disturb(run: Run, seconds: float, rng: random.Random, report: Callable[[str], None]) -> int:
    """Start, kill, start again ... until the command succeeds; the number of orphans left."""
    kills, failures, orphans = 0, 0, 0
    while True:
        process, group = run.start(), set[int]()
        delay = rng.uniform(0.1, 0.9) * seconds if kills < MOST_KILLS_OF_A_RUN else RUN_TIMEOUT_S
        deadline = time.monotonic() + delay
        limit = time.monotonic() + RUN_TIMEOUT_S
        while process.poll() is None and time.monotonic() < limit:
            try:
                group |= {c.pid for c in psutil.Process(process.pid).children(recursive=True)}
            except psutil.NoSuchProcess:
                break
            if time.monotonic() > deadline and kills < MOST_KILLS_OF_A_RUN:
                if kind := kill(process, rng):
                    kills += 1
                    report(kind)
                deadline = time.monotonic() + rng.uniform(0.2, 0.9) * seconds
            time.sleep(0.05)
        if process.poll() is None:
            raise AssertionError(f"{run.folder}: hangs:\n{run.log.read_text()[-2000:]}")
        orphans += wait_for_orphans(group)
        if process.returncode == 0:
            return orphans
        failures += 1
        if failures > kills + 1:
            text = run.log.read_text()[-2000:]
            raise AssertionError(f"{run.folder}: fails without being killed:\n{text}")


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that must not depend on kills: weights, rows, histories, results, MLflow."""
    facts: dict[str, Any] = {}
    out = folder / "out"
    for path in sorted(out.rglob("checkpoint/model.safetensors")):
        facts[f"weights {path.relative_to(out)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if (out / LAYOUT.manifest).exists():
        parts = sorted((out / "data").glob("*.parquet"))
        rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
        rows.sort(key=lambda row: row["frame_id"])
        facts["rows"] = hashlib.sha256(repr(rows).encode()).hexdigest()
        facts["number of rows"] = len(rows)
        facts["rejected"] = pq.read_table(out / LAYOUT.rejected).to_pylist()
    for path in sorted(out.rglob("history.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        facts[f"history {path.relative_to(out)}"] = [steady(line) for line in lines]
    for path in sorted(out.rglob("result.json")):
        facts[f"result {path.relative_to(out)}"] = steady(json.loads(path.read_text()))
    facts["mlflow"] = sorted(records(folder), key=json.dumps)
    return facts


def steady(value: Any) -> Any:
    """A value without what depends on time and place."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if not any(w in k for w in VOLATILE)}
    return [steady(item) for item in value] if isinstance(value, list) else value


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """Every run of the folder's store: kind, status, and all points of its metrics."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cpcdr")
    for run in client.search_runs([experiment.experiment_id]) if experiment else []:
        key = run.info.run_id
        names = sorted(n for n in run.data.metrics if not n.startswith("system/"))
        names = [n for n in names if not any(word in n for word in VOLATILE)]
        points = {
            name: sorted((p.step, p.value) for p in client.get_metric_history(key, name))
            for name in names
        }
        kind = run.data.tags.get("cpcdr.kind")
        yield {"kind": kind, "status": run.info.status, "points": points}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of the facts that are not equal; NaN equals NaN."""
    names = sorted(expected.keys() | found.keys())
    return [n for n in names if repr(expected.get(n)) != repr(found.get(n))]


def undisturbed(names: list[str], root: Path) -> dict[str, tuple[float, dict[str, Any], Path]]:
    """Seconds, outcome and output of each workload, those that others need included."""
    made: dict[str, tuple[float, dict[str, Any], Path]] = {}
    order = [need for name in names if (need := WORKLOADS[name].needs)] + names
    for name in dict.fromkeys(order):
        needs = WORKLOADS[name].needs
        run = Run(name, root / "undisturbed" / name, made[needs][2] if needs else None)
        seconds = run.finish()
        made[name] = seconds, outcome(run.folder), run.folder / "out"
        print(f"{name}: {seconds:.0f} s undisturbed, {len(made[name][1])} facts", flush=True)
    return made


def main() -> int:
    """Run the workloads in turn until the time or the kills are used up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=10**9, help="stop after so many kills")
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, counts = random.Random(options.seed), Counter[str]()
    wrong, orphans, runs, start = [], 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as temporary:
        made = undisturbed(options.only, Path(temporary))
        while True:
            name = options.only[runs % len(options.only)]
            seconds, expected, _ = made[name]
            needs = WORKLOADS[name].needs
            folder = Path(temporary) / f"{runs:03d}-{name}"
            run = Run(name, folder, made[needs][2] if needs else None)
            kinds: list[str] = []
            try:
                orphans += disturb(run, seconds, rng, kinds.append)
                found = differences(expected, outcome(folder))
            except AssertionError as error:
                found = [str(error)]
            counts.update(kinds)
            wrong += [f"{folder.name}: {what}" for what in found]
            print(f"{folder.name}: {', '.join(kinds) or 'no kill'}: {found or 'equal'}", flush=True)
            runs += 1
            spent = (time.monotonic() - start) / 60 > options.minutes
            if (spent and runs >= len(options.only)) or counts.total() >= options.kills:
                break
    summary = {"kills": counts.total(), **counts, "runs": runs, "orphans": orphans}
    print(f"RESULT {json.dumps({**summary, 'differences': wrong, 'seed': options.seed})}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
