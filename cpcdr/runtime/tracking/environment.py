"""Who runs what where: tags of a run, under the names that MLflow's pages know where it has one."""

import contextlib
import getpass
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path


def environment() -> dict[str, str]:
    """The tags: user, command, machine, versions, and the state of the repository."""
    tags = {
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "cpcdr.machine": f"{platform.node()} ({platform.system()} {platform.machine()})",
        "cpcdr.python": platform.python_version(),
    }
    with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    for package in ("torch", "ray"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            tags[f"cpcdr.{package}"] = importlib.metadata.version(package)
    return tags | _git_tags()


def _git_tags() -> dict[str, str]:
    """Commit, branch and whether there are changes; none outside of this package's repository."""
    here = Path(__file__)
    try:
        # Tracked at all? An installed package may be inside another project's repository.
        if not _git("ls-files", "--error-unmatch", here.name):
            return {}
        commit = _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
        tags = {
            "mlflow.source.git.commit": commit.removesuffix("-dirty"),
            "mlflow.source.git.branch": _git("branch", "--show-current"),
            "mlflow.source.git.dirty": str(commit.endswith("-dirty")).lower(),
        }
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return {name: value for name, value in tags.items() if value}


def _git(*arguments: str) -> str:
    """What git prints about the repository of this file; ``""`` where it fails."""
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return "" if done.returncode else done.stdout.strip()
