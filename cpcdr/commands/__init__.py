"""Every command by its name: ``cpcdr NAME``, ``python -m cpcdr NAME`` and ``experiments/NAME.py``.

A command is a file of this package with a function, both named like it. Its docstring is what
``--help`` prints; it is read from the source, and the code is imported only to run, so that help
and errors in arguments come at once.
"""

import ast
import difflib
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import cpcdr
from cpcdr.runtime import cli
from cpcdr.runtime.progress import phase

COMMANDS = {
    "run": "commands.config.RunConfig",
    "demo": "commands.config.DemoConfig",
    "train_street": "train.config.TrainStreetConfig",
    "train_depth": "train.config.TrainDepthConfig",
    "evaluate_depth": "evaluate.config.EvaluateDepthConfig",
    "evaluate_regions": "evaluate.config.EvaluateRegionsConfig",
    "prepare": "prepare.config.PrepareConfig",
    "export_png": "prepare.config.ExportPngConfig",
    "pretrain": "train.config.PretrainConfig",
    "evaluate": "evaluate.config.EvaluateConfig",
    "probe": "evaluate.config.ProbeConfig",
    "name": "segment.config.NameConfig",
    "finetune": "train.finetune_config.FinetuneConfig",
    "segment": "segment.config.SegmentConfig",
    "export": "segment.config.ExportConfig",
    "tune_regions": "tune.config.TuneConfig",
    "tune_pretrain": "tune.config.TunePretrainConfig",
    "ablate": "ablate.config.AblateConfig",
    "benchmark": "commands.config.BenchmarkConfig",
}
"""In the order of the data flow, each with its configuration class."""

RESUMED = {
    "run", "demo", "train_street", "train_depth", "prepare", "pretrain", "finetune", "segment",
    "tune_regions", "tune_pretrain", "ablate",
}  # fmt: skip
"""Commands that continue where they were stopped; the others start over."""


def config_of(name: str) -> type[Any]:
    """The configuration class of a command."""
    module, _, attribute = COMMANDS[name].rpartition(".")
    return getattr(import_module(f"cpcdr.{module}"), attribute)


def function_of(name: str) -> Callable[[Any], dict[str, Any]]:
    """What a command runs; imports all that it needs."""
    with phase("loading"):
        return getattr(import_module(f"{__name__}.{name}"), name)


def description_of(name: str) -> str:
    """The docstring of a command's module, without importing it."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def run_command(name: str, argv: Sequence[str] | None = None) -> NoReturn:
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
        word="BENCH" if name == "benchmark" else "RESULT",
        again="continue" if name in RESUMED else "start over",
    )


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """``cpcdr``: help, version, completion, or a command with its arguments."""
    given = list(sys.argv[1:] if argv is None else argv)
    first = given[0] if given else "--help"
    name = first.replace("-", "_")
    if name in COMMANDS:
        run_command(name, given[1:])
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
    summaries = {name: description_of(name).splitlines()[0].rstrip(".") for name in COMMANDS}
    lines = [f"  {name.replace('_', '-'):{width}}{text}" for name, text in summaries.items()]
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
