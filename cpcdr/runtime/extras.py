"""Packages that only some commands need, and how to install them."""

import importlib.metadata
import re
import shlex
import sys
from pathlib import Path

_PACKAGE = "cpcdr"


def install_command(extra: str) -> str:
    """The command that installs the packages of an extra beside the Python that is running.

    It names the packages themselves: ``cpcdr[extra]`` would be looked up on PyPI, wherever this
    package came from. An uninstalled checkout is named by its folder.
    """
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    try:
        requirements = importlib.metadata.requires(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return f"{pip} {shlex.quote(f'{Path(__file__).parents[2]}[{extra}]')}"
    of_extra = [r for r in requirements if re.search(rf"extra == ['\"]{extra}['\"]", r)]
    return " ".join([pip, *(shlex.quote(r.partition(";")[0].strip()) for r in of_extra)])
