"""How the sentences on missing packages say to install them."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

from cpcdr.runtime.extras import install_command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("extra", ["onnx", "hf"])
def test_an_installed_package_names_what_its_extra_needs(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra]
    recorded = [
        f"{r}; extra == '{e}'" for e, rs in project["optional-dependencies"].items() for r in rs
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["numpy>=1", *recorded])
    expected = " ".join(f"'{requirement}'" for requirement in wanted)
    assert install_command(extra) == f"{sys.executable} -m pip install {expected}"


def test_a_checkout_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert install_command("onnx") == f"{sys.executable} -m pip install '{ROOT}[onnx]'"
