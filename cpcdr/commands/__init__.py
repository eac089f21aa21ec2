"""Every command by its name: ``cpcdr NAME``, ``python -m cpcdr NAME`` and ``experiments/NAME.py``.

A command is a file of this package that is named like it. Its docstring is what ``--help`` prints;
it is read from the source, and the code is imported only to run, so that help and errors in
arguments come at once.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import cpcdr
from cpcdr.runtime import cli


@dataclass(frozen=True)
class Command:
    """What a name stands for.

    Attributes:
        summary: one line of help.
        config: dotted name of the configuration class.
        function: in the command's module.
        word: before the result on the last line of output.
    """

    summary: str
    config: str
    function: str
    word: str = "RESULT"


COMMANDS = {
    "demo": Command(
        "the whole chain in a few minutes on the synthetic street or your frames",
        "cpcdr.commands.config.DemoConfig",
        "demo",
    ),
    "train_depth": Command(
        "train depth and pose networks, self-supervised on your video",
        "cpcdr.train.config.TrainDepthConfig",
        "train_depth",
    ),
    "evaluate_depth": Command(
        "measure depth against ground truth, and a network's photometry and motion",
        "cpcdr.evaluate.config.EvaluateDepthConfig",
        "evaluate_depth",
    ),
    "evaluate_regions": Command(
        "measure coherent depth regions beside SLIC and others",
        "cpcdr.evaluate.config.EvaluateRegionsConfig",
        "evaluate_regions",
    ),
    "prepare": Command(
        "frames -> disparity -> coherent depth regions -> a Parquet dataset",
        "cpcdr.prepare.config.PrepareConfig",
        "prepare",
    ),
    "export_png": Command(
        "a prepared dataset as trees of PNG files",
        "cpcdr.prepare.config.ExportPngConfig",
        "export_png",
    ),
    "pretrain": Command(
        "pre-train a segmentation network on a prepared dataset",
        "cpcdr.train.config.PretrainConfig",
        "pretrain",
    ),
    "evaluate": Command(
        "score a pre-trained network by the unsupervised protocol",
        "cpcdr.evaluate.config.EvaluateConfig",
        "evaluate_and_print",
    ),
    "probe": Command(
        "linear probes and nearest neighbours on frozen features",
        "cpcdr.evaluate.config.ProbeConfig",
        "probe",
    ),
    "finetune": Command(
        "fine-tune on labelled frames",
        "cpcdr.train.config.FinetuneConfig",
        "finetune",
    ),
    "segment": Command(
        "run a trained network over video: overlay videos or label maps",
        "cpcdr.segment.config.SegmentConfig",
        "segment",
    ),
    "export": Command(
        "a trained network as ONNX, and into MLflow's model registry",
        "cpcdr.segment.config.ExportConfig",
        "export",
    ),
    "tune_regions": Command(
        "search region settings, prototypes and temperatures",
        "cpcdr.tune.config.TuneConfig",
        "tune_regions",
    ),
    "tune_pretrain": Command(
        "search learning rate, prototypes, loss weights and copy counts",
        "cpcdr.tune.config.TunePretrainConfig",
        "tune_pretrain",
    ),
    "ablate": Command(
        "equal pre-trainings that differ in one factor, over seeds, with intervals",
        "cpcdr.ablate.config.AblateConfig",
        "ablate",
    ),
    "compare": Command(
        "recorded runs beside each other in one HTML page",
        "cpcdr.commands.config.CompareConfig",
        "compare",
    ),
    "benchmark": Command(
        "time a part beside its limit, measured in the same run",
        "cpcdr.commands.config.BenchmarkConfig",
        "benchmark",
        word="BENCH",
    ),
}
"""In the order of the data flow."""


def config_of(name: str) -> type[Any]:
    """The configuration class of a command."""
    module, _, attribute = COMMANDS[name].config.rpartition(".")
    return getattr(import_module(module), attribute)


def function_of(name: str) -> Callable[[Any], dict[str, Any]]:
    """What a command runs; imports all that it needs."""
    return getattr(import_module(f"{__name__}.{name}"), COMMANDS[name].function)


def description_of(name: str) -> str:
    """The docstring of a command's module, without importing it."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def run(name: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Parse the arguments of a command and run it; never returns.

    Args:
        argv: its arguments; those of this process if None.
    """
    cli.main(
        config_of(name),
        lambda config: function_of(name)(config),
        description_of(name),
        sys.argv[1:] if argv is None else argv,
        prog=f"cpcdr {name.replace('_', '-')}",
        word=COMMANDS[name].word,
    )


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """``cpcdr``: help, version, completion, or a command with its arguments."""
    given = list(sys.argv[1:] if argv is None else argv)
    first = given[0] if given else "--help"
    name = first.replace("-", "_")
    if name in COMMANDS:
        run(name, given[1:])
    if first in ("-h", "--help"):
        cli.leave(overview(), 0)
    if first == "--version":
        cli.leave(f"cpcdr {cpcdr.__version__}", 0)
    if first == "--completion":
        commands = {n.replace("_", "-"): config_of(n) for n in COMMANDS}
        cli.complete(commands, "cpcdr", given[1:])
    close = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.0)[0].replace("_", "-")
    cli.leave(
        f"error: there is no command '{first}'; did you mean {close}? (cpcdr --help lists all)", 2
    )


def overview() -> str:
    """What ``cpcdr --help`` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name.replace('_', '-'):{width}}{c.summary}" for name, c in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cpcdr COMMAND [OPTIONS]",
            "",
            "Unlabelled driving video in, a segmentation network that knows streets out.",
            "",
            "commands, in the order of the data:",
            *lines,
            "",
            "cpcdr COMMAND --help            options and examples of a command",
            "cpcdr --version                 the installed version",
            "cpcdr --completion bash|zsh     a completion script for your shell",
        ]
    )
