"""``cpcdr``: its help, its completion, and what it says of names that it does not know."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

import cpcdr
from cpcdr import commands
from cpcdr.commands import (
    COMMANDS,
    RESUMED,
    config_of,
    description_of,
    function_of,
    main,
    run_command,
)

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "torchvision", "ray", "mlflow", "sklearn", "matplotlib", "scipy", "numba"}


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``cpcdr ARGV``."""
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert isinstance(left.value.code, int)
    return left.value.code, *capsys.readouterr()


def test_help_has_a_line_for_every_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "--help")
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert (code, err) == (0, "")
    assert [line[0].replace("-", "_") for line in lines] == list(COMMANDS)
    assert max(map(len, out.splitlines())) <= 100
    assert said(capsys) == (code, out, err)


def test_every_experiment_is_a_command() -> None:
    assert {path.stem for path in (ROOT / "experiments").glob("*.py")} == set(COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == (0, f"cpcdr {cpcdr.__version__}\n", "")


@pytest.mark.parametrize(("given", "close"), [("prepar", "prepare"), ("train-dept", "train-depth")])
def test_an_unknown_name_is_told_the_closest(
    capsys: pytest.CaptureFixture[str], given: str, close: str
) -> None:
    code, out, err = said(capsys, given, "--out", "x")
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and f"'{given}'" in err and f"did you mean {close}?" in err


@pytest.mark.parametrize("name", ["train-depth", "train_depth"])
def test_both_spellings(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = said(capsys, name, "--help")
    assert code == 0 and out.startswith("usage: cpcdr train-depth")


def test_help_of_every_command_loads_nothing_heavy() -> None:
    """Nor does an error in the arguments. One process for all: what one loads, it shows."""
    code = f"""
import contextlib, io, sys
from cpcdr.commands import COMMANDS, main
for name in COMMANDS:
    for arguments in (["--help"], ["--no-such-flag", "1"]):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
            main([name, *arguments])
        assert "Example" in out.getvalue() or arguments != ["--help"], name
        loaded = {HEAVY!r} & {{module.split(".")[0] for module in sys.modules}}
        assert not loaded, (name, loaded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("error: ") == len(COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_descriptions_are_the_docstrings(name: str) -> None:
    assert description_of(name).splitlines()[0].endswith(".")
    assert f"  cpcdr {name.replace('_', '-')}" in description_of(name)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_name_leads_to_code(name: str) -> None:
    config = config_of(name)()
    function = function_of(name)
    parameters = list(ast.parse(f"def f({','.join(function.__code__.co_varnames[:1])}): 0").body)
    assert config is not None and len(parameters) == 1 and function.__code__.co_argcount == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment", "--netwrk", "x"], ("--netwrk", "--network")),
        (["export-png", "--out"], ("--out",)),
        (["pretrain", "--frames-per-item", "many"], ("--frames-per-item", "many")),
    ],
)
def test_errors_of_the_parser_are_sentences(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: tuple[str, ...]
) -> None:
    code, out, err = said(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and all(word in err for word in words)


def test_python_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cpcdr", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, f"cpcdr {cpcdr.__version__}\n")


def test_completion(tmp_path: Path) -> None:
    """Bash completes commands and their flags."""
    made = subprocess.run(
        [sys.executable, "-m", "cpcdr", "--completion", "bash"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert made.returncode == 0, made.stderr
    script = tmp_path / "complete.sh"
    script.write_text(made.stdout)
    ask = f"""source {script}; f=$(complete -p cpcdr | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=(cpcdr train-depth --dep); COMP_CWORD=2; COMP_LINE='cpcdr train-depth --dep'
COMP_POINT=${{#COMP_LINE}}; $f cpcdr --dep train-depth; echo "${{COMPREPLY[@]}}"
COMP_WORDS=(cpcdr exp); COMP_CWORD=1; COMP_LINE='cpcdr exp'; COMP_POINT=${{#COMP_LINE}}
$f cpcdr exp cpcdr; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
    flags, names = done.stdout.splitlines()[-2:]
    assert "--depth.spacing" in flags and set(names.split()) == {"export", "export-png"}, done


@pytest.mark.parametrize(("name", "does"), [("evaluate", "start over"), ("segment", "continue")])
def test_what_the_same_command_does_after_a_stop(
    name: str, does: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(_: str) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "function_of", stopped)
    monkeypatch.setattr("cpcdr.runtime.cli.stop_on_signals", lambda: None)
    with pytest.raises(SystemExit, match="130"):
        run_command(name, ["--network", "x", "--frames", "y"])
    assert capsys.readouterr().err.endswith(f"stopped; run the same command again to {does}.\n")
    assert set(COMMANDS) > RESUMED
