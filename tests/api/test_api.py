"""The commands as functions: their defaults, and the examples in the docstrings."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import cpcdr
from cpcdr import api
from cpcdr.api import results
from cpcdr.api.call import configuration
from cpcdr.api.results import FinetuneResult, Result
from cpcdr.commands import config_of
from cpcdr.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CALLS = ["train_depth", "prepare", "pretrain", "finetune", "evaluate", "segment", "run"]


def test_one_import_brings_the_stages_and_nothing_heavy() -> None:
    assert {*CALLS, "load"} == set(api.__all__) and api.load is cpcdr.load
    code = "from cpcdr import api; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"torch", "ray", "mlflow", "matplotlib", "scipy"} & set(done.stdout.split())


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_the_defaults_and_the_types_of_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = getattr(api, name)
    given: dict[str, Any] = {}
    monkeypatch.setattr(api, "call", lambda *a: given.update(command=a[0], kind=a[1], flags=a[2]))
    function()
    assert given["command"] == name
    assert configuration(name, given["flags"]) == config_of(name)()
    hints = typing.get_type_hints(function)
    assert hints.pop("return") is given["kind"] and issubclass(given["kind"], Result)
    assert set(hints) == set(inspect.signature(function).parameters)
    # None of the arguments is left on the way.
    assert len(given["flags"]) == len(hints) - 1
    for argument in hints:
        assert f"{argument}: " in function.__doc__


def test_arguments_and_flags_reach_the_command() -> None:
    flags = {"train.lr": 5e-4, "--dashboard": True, "train.channels_last": False}
    given = {"data": Path("a b"), "preset": "paper", "train.steps": 7, "model.init": None}
    config = configuration("pretrain", given | flags)
    assert config.data == Path("a b") and config.train.steps == 7
    assert (config.train.lr, config.engine.dashboard, config.train.channels_last) == (
        5e-4,
        True,
        False,
    )
    assert config.model.backbone == "resnet50" and config.model.init == ""
    window = configuration("segment", {"options.window": "-40:", "out": "x", "labels": True})
    assert window.options.window == "-40:" and window.labels
    with pytest.raises(InputError, match=r"--train.lrr.*did you mean --train.lr\?"):
        configuration("pretrain", {"train.lrr": 1})
    with pytest.raises(InputError, match="preset 'papers' is unknown; choose small or paper"):
        configuration("prepare", {"preset": "papers"})


def test_results_print_as_a_table() -> None:
    values = {"checkpoint": "a/b", "protocol": "p", "labelled_frames": 3, "miou": 0.123456}
    values |= {"per_class_iou": {"road": 0.5, "sky": None}, "run_id": "", "more": [1]}
    result = FinetuneResult.of(values)
    assert result.checkpoint == Path("a/b") and result.record["more"] == [1]
    lines = [line.split(maxsplit=1) for line in repr(result).splitlines()]
    assert ["miou", "0.1235"] in lines and ["accuracy", "–"] in lines
    assert ["per_class_iou", "road 0.5, sky –"] in lines and lines[0] == ["FinetuneResult"]


@pytest.mark.slow
def test_the_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder()
    found = sorted(finder.find(api), key=lambda test: test.lineno or 0)
    examples = [test for test in found if test.examples] + finder.find(api.load, "load")
    assert [test.name.rpartition("api.")[2] for test in examples[1:]] == [*CALLS, "load"]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in examples:
        runner.run(example)
    assert runner.tries > 20 and runner.failures == 0


@pytest.mark.parametrize("module", [results, sys.modules["cpcdr.api.call"]])
def test_small_examples(module: Any) -> None:
    tried = doctest.testmod(module)
    assert tried.attempted and not tried.failed
