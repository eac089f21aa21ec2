"""cpcdr beside lightly-train: the same frames, network and CPU time, scored by the same code.

Both pre-train torchvision's ResNet-18 from random weights on unlabelled frames. cpcdr takes so many
steps, and its CPU time, that of preparing depth and regions included, is what lightly-train gets.
Then the backbone alone of each is scored: a ridge probe and k-means of its frozen features, and
fine-tuning with a part of the labels; a backbone that was not pre-trained is scored beside them.

    python -m venv PEER && PEER/bin/pip install lightly-train
    python benchmarks/peers/against_lightly_train.py --peer-python PEER/bin/python \
        --frames CamVid/train --evaluate CamVid/val

Run it alone on a machine. Stop it at any time: the same command resumes after the last finished
part, and prints the table of what there is.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from cpcdr.evaluate.statistics import estimate, paired
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.run_folder import claim
from cpcdr.runtime.strict_json import read_json, write_json
from cpcdr.runtime.tables import text_table

HERE = Path(__file__).resolve().parent
SCORES = {
    "backbone_ridge": "ridge probe of the backbone, mIoU",
    "backbone_kmeans": "k-means of the backbone, mIoU",
    "finetuned": "fine-tuned, mIoU",
}
UNTRAINED, PEER, OURS = "not pre-trained", "lightly-train", "cpcdr"
Result = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        peer_python: Python of an environment with lightly-train.
        frames: a tree as CamVid's, ``images`` and ``labels``, to pre-train and fine-tune on.
        evaluate: another one to score on.
        out: folder of all results.
        size: height and width of the frames for both.
        steps: optimiser steps of cpcdr pretrain.
        method: of lightly-train.
        batch_size: of lightly-train.
        fraction: of the labels that fine-tuning gets.
        finetune_steps: optimiser steps of it.
        seeds: of weights and data order; each is one repetition.
        threads: of everything.
        limit: frames that cpcdr reads of each tree, for a trial of this script; 0: all.
    """

    peer_python: Path
    frames: Path
    evaluate: Path
    out: Path = Path("runs/peers")
    size: tuple[int, int] = (144, 192)
    steps: int = 600
    method: str = "simclr"
    batch_size: int = 32
    fraction: float = 0.125
    finetune_steps: int = 300
    seeds: tuple[int, ...] = (0, 1, 2)
    threads: int = os.cpu_count() or 1
    limit: int = 0


def main(settings: Settings) -> None:
    """Run what is not done yet, and print the table after every seed."""
    identity = {k: v for k, v in asdict(settings).items() if k not in ("out", "seeds")}
    claim(settings.out, "settings.yaml", identity, "a comparison")
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    rows: dict[int, dict[str, Result]] = {}
    for seed in settings.seeds:
        rows[seed] = repetition(settings, seed)
        print(table(rows))


def repetition(settings: Settings, seed: int) -> dict[str, Result]:
    """Both trainings with one seed, and the scores of all three backbones."""
    folder = settings.out / f"seed-{seed}"
    prepared = once(settings.out / "prepare.json", prepare, settings)
    rate = once(settings.out / "peer_rate.json", peer_rate, settings)
    ours = once(folder / "ours.json", train_ours, settings, folder / "ours", seed)
    budget = ours["cpu_seconds"] + prepared["cpu_seconds"]
    epochs = max(1, round((budget - rate["start"]) / rate["epoch"]))
    peer = once(folder / "peer.json", train_peer, settings, folder / "peer", seed, epochs)
    starts = {UNTRAINED: "", PEER: peer["backbone"], OURS: ours["backbone"]}
    found = {}
    for i, (name, start) in enumerate(starts.items()):
        path = folder / f"scores-{i}.json"
        found[name] = once(path, scores, settings, folder / f"scored-{i}", start, seed)
    found[PEER]["cpu_seconds"], found[OURS]["cpu_seconds"] = peer["cpu_seconds"], budget
    return found


def once(path: Path, make: Callable[..., Result], *arguments: Any) -> Result:
    """What ``make`` returned, in this run or an earlier one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, make(*arguments))
    return read_json(path)


def run(*command: Any) -> tuple[str, float]:
    """The standard output of a command, and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("$", *command, flush=True)
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.stdout, round(seconds, 1)


def cpcdr(command: str, *options: Any) -> tuple[Result, float]:
    """What a command of ours returns, and the CPU seconds that it took."""
    own = [sys.executable, "-m", "cpcdr", command, *options, "--tracking", "none"]
    told, seconds = run(*own)
    return json.loads(told.splitlines()[-1].removeprefix("RESULT ")), seconds


def prepare(settings: Settings) -> Result:
    """Depth and regions of the frames: a part of what cpcdr costs."""
    _, seconds = cpcdr(
        "prepare", "--frames", f"camvid:{settings.frames}", "--size", *settings.size,
        "--out", settings.out / "data", "--engine", "local", "--options.limit", settings.limit,
    )  # fmt: skip
    return {"cpu_seconds": seconds}


def train_ours(settings: Settings, folder: Path, seed: int) -> Result:
    """Pre-train from the start, and write the backbone for torchvision's code."""
    shutil.rmtree(folder, ignore_errors=True)  # a resumed one would hide what it cost before
    result, seconds = cpcdr(
        "pretrain", "--data", settings.out / "data", "--out", folder, "--engine", "local",
        "--model.backbone", "torchvision:resnet18", "--train.steps", settings.steps,
        "--seed", seed,
    )  # fmt: skip
    backbone = folder / "backbone.safetensors"
    run(
        sys.executable, "-m", "cpcdr", "export", "--network", result["checkpoint"],
        "--what", "backbone", "--out", backbone,
    )  # fmt: skip
    return {"cpu_seconds": seconds, "backbone": str(backbone)}


def train_peer(settings: Settings, folder: Path, seed: int, epochs: int) -> Result:
    """The same by lightly-train, whose length is a number of epochs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    given = {
        "out": str(folder.absolute()),
        "images": str((settings.frames / "images").absolute()),
        "method": settings.method,
        "epochs": epochs,
        "batch_size": settings.batch_size,
        "size": settings.size,
        "seed": seed,
    }
    _, seconds = run(settings.peer_python, HERE / "train_peer.py", json.dumps(given))
    backbone = folder / "backbone.safetensors"
    return {"cpu_seconds": seconds, "epochs": epochs, "backbone": str(backbone)}


def peer_rate(settings: Settings) -> Result:
    """CPU seconds of lightly-train's start and of one epoch, from trainings of one and of four."""
    folder = settings.out / "peer-rate"
    one, four = (train_peer(settings, folder, 0, n)["cpu_seconds"] for n in (1, 4))
    epoch = max((four - one) / 3, 1e-3)
    return {"epoch": epoch, "start": one - epoch}


def scores(settings: Settings, folder: Path, start: str, seed: int) -> Result:
    """Scores of a backbone: frozen, and as a start of fine-tuning.

    Args:
        start: file of its weights; ``""``: random ones.
    """
    shutil.rmtree(folder, ignore_errors=True)
    frames = ["--frames", f"camvid:{settings.frames}", "--evaluate", f"camvid:{settings.evaluate}"]
    frames += ["--options.limit", str(settings.limit)]
    network = as_checkpoint(settings, folder, start, seed)
    probed, _ = cpcdr(
        "probe", "--network", network, *frames, "--size", *settings.size, "--out", folder / "probe"
    )
    tuned, _ = cpcdr(
        "finetune", "--network", start or "scratch", *frames, "--out", folder / "finetune",
        "--finetune.model.backbone", "torchvision:resnet18", "--finetune.size", *settings.size,
        "--finetune.fraction", settings.fraction, "--train.steps", settings.finetune_steps,
        "--evaluate-size", *settings.size, "--engine", "local", "--seed", seed,
    )  # fmt: skip
    found = {name: probed[name] for name in ("backbone_ridge", "backbone_kmeans")}
    return {**found, "finetuned": tuned["miou"]}


def as_checkpoint(settings: Settings, folder: Path, start: str, seed: int) -> Path:
    """A checkpoint of a network with this backbone, whose other parts were never trained."""
    from cpcdr.commands import config_of
    from cpcdr.runtime.cli import parse
    from cpcdr.train.pretrain_task import task_of

    options = ["--data", str(settings.out / "data"), "--seed", str(seed)]
    options += ["--model.backbone", "torchvision:resnet18", "--model.init", start or "scratch"]
    task = task_of(parse(config_of("pretrain"), "", options))
    torch.manual_seed(seed)
    config = {"kind": task.kind, "config": task.config()}
    return write_checkpoint(folder / "start", 0, config, task.build().state_dict(), {})


def table(rows: dict[int, dict[str, Result]]) -> str:
    """Means over the seeds with 95 % t intervals, in per cent, and what cpcdr is ahead by."""
    names = (UNTRAINED, PEER, OURS)
    lines = [["", *names, f"{OURS} - {PEER}"]]
    for key, title in SCORES.items():
        values = {n: {s: 100 * found[n][key] for s, found in rows.items()} for n in names}
        cells = [interval(estimate(values[n].values())) for n in names]
        lines.append([title, *cells, interval(paired(values[OURS], values[PEER]))])
    cpu = [estimate(found[n].get("cpu_seconds", 0.0) for found in rows.values()) for n in names]
    lines.append(["CPU seconds", *(f"{c['mean']:.0f}" for c in cpu), ""])
    return f"\n{text_table(lines)}\nseeds {', '.join(map(str, rows))}; 95 % t intervals\n"


def interval(found: Result) -> str:
    """``30.1 [28.0, 32.2]``."""
    spread = "" if found["low"] is None else f" [{found['low']:.1f}, {found['high']:.1f}]"
    return f"{found['mean']:.1f}{spread}"


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
