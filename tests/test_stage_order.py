"""An earlier stage never imports a later one; Ray and MLflow stay where they belong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cpcdr"
ORDER = [
    *["runtime", "frames", "geometry", "maps", "visualize", "model", "depth", "regions"],
    *["part_index", "dataset", "prepare", "copy_paste", "loss", "train", "evaluate", "segment"],
    *["trials", "tune", "ablate", "commands", "api", "__main__"],
]
RAY = re.compile(
    r"runtime\.(session|cluster|map_frames)|train\.(engine|ray_group|ray_record)|prepare\.on_dataset"
    r"|trials\.\w+|tune\.(region_stage|repeats|schedule|search|trial)"
    r"|ablate\.trials|commands\.benchmarks\.scale"
)
MLFLOW = re.compile(r"runtime\.tracking\.\w+|commands\.export")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            yield name, path


def imports(path: Path) -> Iterator[str]:
    """Everything a file imports anywhere: at the top, inside functions, for type checking only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def stage_of(module: str) -> str:
    """``runtime.config.to_plain`` -> ``runtime``."""
    return module.split(".")[0]


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[m for m, _ in modules()])
def test_imports(module: str, path: Path) -> None:
    stage = stage_of(module)
    assert stage in ORDER, f"{path} belongs to no stage: give it a place in the order"
    for name in imports(path):
        top = name.split(".")[0]
        if top == "cpcdr" and name not in ("cpcdr.__version__", "cpcdr"):
            other = stage_of(name.removeprefix("cpcdr."))
            assert other in ORDER, f"{path} imports {name}, which has no stage"
            assert ORDER.index(other) <= ORDER.index(stage), f"{path} imports the later {name}"
        if top == "ray":
            assert RAY.fullmatch(module), f"{path} imports Ray"
        if top == "mlflow":
            assert MLFLOW.fullmatch(module), f"{path} imports MLflow"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.name)
def test_experiments_are_thin(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60, f"{path} has {len(lines)} lines"
    assert not {"ray", "mlflow"} & {name.split(".")[0] for name in imports(path)}


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in ``sys.modules`` of a fresh Python after ``statement``."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(result.stdout.split())


@pytest.mark.slow
def test_a_notebook_gets_neither_ray_nor_mlflow() -> None:
    loaded = loaded_by(
        "import cpcdr.frames, cpcdr.geometry, cpcdr.depth, cpcdr.regions, cpcdr.dataset, "
        "cpcdr.copy_paste, cpcdr.loss, cpcdr.model.segmentation, cpcdr.train.loop, "
        "cpcdr.train.engine"
    )
    assert "torch" in loaded
    assert not loaded & {"ray", "mlflow", "infomap"}


def test_the_notebook_test_can_fail() -> None:
    assert "mlflow" in loaded_by("import sys, types; sys.modules['mlflow'] = types")


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.name)
def test_every_experiment_is_a_command(path: Path) -> None:
    assert (PACKAGE / "commands" / path.name).is_file(), f"there is no cpcdr/commands/{path.name}"
