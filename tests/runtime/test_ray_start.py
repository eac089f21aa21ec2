"""A Ray that starts late is given more time, and in the end one sentence says what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START = """
import psutil
from cpcdr.runtime import session
from cpcdr.runtime.errors import InputError
session._START_LIMITS_S = {limits}
try:
    with session.ray_session():
        import ray
        print("works", ray.get(ray.remote(lambda: 7).remote()))
        names = [child.name() for child in psutil.Process().children(recursive=True)]
        assert names.count("gcs_server") == names.count("raylet") == 1, "no failed start is left"
except InputError as error:
    assert not psutil.Process().children(recursive=True)
    print(error)
"""


def start(limits: tuple[float, ...], folder: Path) -> str:
    """What a process prints that starts Ray under these limits; stderr only says that it does."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", START.format(limits=limits)],
        cwd=folder,
        env={**keep, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )
    assert all(re.match(r"(starting|stopping) Ray \[", line) for line in done.stderr.splitlines())
    return done.stdout.strip()


@pytest.mark.slow
def test_a_late_ray_is_started_again_with_more_time(tmp_path: Path) -> None:
    assert start((-1, 240), tmp_path) == "works 7"


@pytest.mark.slow
def test_a_ray_that_never_comes_is_one_sentence(tmp_path: Path) -> None:
    said = start((-1, -1), tmp_path)
    assert said.startswith("Ray does not start on this machine (")
    assert said.endswith("or run without Ray: --engine local.") and "\n" not in said


DASHBOARD = r"""
import re, urllib.error, urllib.request
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from cpcdr.runtime.session import ray_session

def status(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""

told = StringIO()
with redirect_stdout(told), ray_session(dashboard=True):
    said = re.search(r"(http://127.0.0.1:[0-9]+) .* token in (\S+)\.$", told.getvalue())
    url, file = said.groups()
    page = status(url)
    assert page[0] == 200 and "<title>Ray Dashboard</title>" in page[1], page
    nodes = url + "/nodes?view=summary"
    assert status(nodes)[0] == 401
    assert status(nodes, Authorization=f"Bearer {Path(file).read_text()}")[0] == 200
print("seen", told.getvalue().count("dashboard"))
"""


@pytest.mark.slow
def test_the_dashboard_is_where_it_is_said_and_asks_for_the_token(tmp_path: Path) -> None:
    keep = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", DASHBOARD],
        cwd=tmp_path,
        env={**keep, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "seen 1\n"
