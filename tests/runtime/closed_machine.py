"""Run inside a network namespace of its own: a local session, its sockets, and two attacks on it.

``python closed_machine.py ADDRESS FOLDER``; ADDRESS is an address of the namespace that is not
loopback. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

JOIN = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
ray.get(ray.remote(lambda: open(sys.argv[2], 'w').close()).remote())
"""


def sockets() -> list[tuple[str, str, int]]:
    """Process, address and port of everything that listens."""
    me, found = psutil.Process(), list[tuple[str, str, int]]()
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            found += [
                (process.name(), connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            ]
    return found


def sockets_of_a_training(out: Path) -> set[tuple[str, str, int]]:
    """What listens at any time while two workers train together."""
    from cpcdr.frames import open_frames
    from cpcdr.model.config import ModelConfig
    from cpcdr.runtime.repeat import repeated
    from cpcdr.train.config import EngineConfig, TrainConfig
    from cpcdr.train.engine import train
    from cpcdr.train.finetune_config import FinetuneSettings
    from cpcdr.train.finetune_task import FinetuneTask

    source = open_frames("synthetic:seed=3,streets=4,frames=2,height=64,width=128")
    model = ModelConfig("resnet10", 8, 16, 32, 16, 8)
    task = FinetuneTask(FinetuneSettings(model=model, size=(64, 128), batch_size=2), source)
    seen = set[tuple[str, str, int]]()
    with repeated(lambda: seen.update(sockets()), 0.1):
        train(task, TrainConfig(steps=20), EngineConfig(workers=2, cpus_per_worker=0.5), out)
    return seen


def submit_job(url: str, marker: Path) -> str:
    """Ask the agent or the head to run a command; what came of it."""
    body = json.dumps({"entrypoint": f"touch {marker}"}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return f"accepted: {answer.status}"
    except urllib.error.HTTPError as error:
        return f"refused: {error.code}"
    except Exception as error:
        return f"no answer: {type(error).__name__}"


def join(address: str, marker: Path, home: Path) -> str:
    """Join from a process that has not the token, and run a task; what came of it."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    command = [sys.executable, "-c", JOIN, address, str(marker)]
    for mode in ("disabled", "token"):
        environment = {**keep, "HOME": str(home), "RAY_AUTH_MODE": mode}
        if mode == "token":
            environment["RAY_AUTH_TOKEN"] = "0" * 64
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=25)
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            return f"joined with mode {mode}"
    return "refused"


def main() -> dict[str, Any]:
    """Start, list, attack."""
    from cpcdr.runtime.session import ray_session

    address, folder = sys.argv[1], Path(sys.argv[2])
    ran, joined = folder / "ran", folder / "joined"
    with ray_session(dashboard=True):
        import ray

        found = sockets()
        servers = [port for name, _, port in found if name == "gcs_server"]
        answers = {}
        for host in (address, "127.0.0.1"):
            for _, _, port in found:
                for path in ("api/job_agent/jobs/", "api/jobs/"):
                    url = f"http://{host}:{port}/{path}"
                    answers[url] = submit_job(url, ran)
        joins = {
            host: join(f"{host}:{servers[0]}", joined, folder) for host in (address, "127.0.0.1")
        }
        works = ray.get(ray.remote(lambda: "own").remote()) == "own"
        training = sockets_of_a_training(folder.with_name("training"))
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        mode = f"{token.stat().st_mode & 0o777:o} in {token.parent.stat().st_mode & 0o777:o}"
    return {
        "sockets": found,
        "training": sorted(training),
        "answers": answers,
        "joins": joins,
        "ran": ran.exists() or joined.exists(),
        "works": works,
        "token": mode,
        "home": [path.name for path in folder.iterdir()],
    }


if __name__ == "__main__":
    print(json.dumps(main()))
