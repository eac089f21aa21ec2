"""The frame around every script, run as users run it: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cpcdr.evaluate.config import EvaluateConfig
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.cli import overlay_sections, parse
from cpcdr.runtime.errors import InputError
from cpcdr.train.finetune_config import FinetuneConfig

SCRIPT = '''"""Adds numbers."""
import time
from dataclasses import dataclass, field
from pathlib import Path
from cpcdr.runtime.cli import main
from cpcdr.runtime.errors import InputError

@dataclass(frozen=True)
class Part:
    """A part.

    Attributes:
        weight: of the part.
    """
    weight: float = 1.0

@dataclass(frozen=True)
class Config:
    """What to add.

    Attributes:
        value: a number.
        mode: what to do.
    """
    value: int = 1
    mode: str = "add"
    part: Part = field(default_factory=Part)

def run(config):
    if config.mode == "bad":
        raise InputError("clip.mp4: holds no frame; give another file.")
    if config.mode == "bug":
        raise KeyError("a bug")
    if config.mode == "wait":
        print("waiting", flush=True)
        time.sleep(60)
    print("working")
    return {"value": config.value, "weight": config.part.weight, "nan": float("nan"),
            "list": [float("inf"), 1.5], "path": Path("a/b")}

if __name__ == "__main__":
    main(Config, run, __doc__)
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=60
    )


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    last = done.stdout.rstrip("\n").split("\n")[-1]
    assert last.startswith("RESULT ")
    return json.loads(last.removeprefix("RESULT "), parse_constant=pytest.fail)


def test_the_last_line_is_the_result_as_strict_json(script: Path) -> None:
    result = result_of(run(script, "--value", "3", "--part.weight", "0.5"))
    expected = {"value": 3, "weight": 0.5, "nan": None, "list": [None, 1.5], "path": "a/b"}
    assert result == expected


def test_bad_input_is_one_sentence_and_exit_code_2(script: Path) -> None:
    done = run(script, "--mode", "bad")
    assert done.returncode == 2
    assert done.stderr == "error: clip.mp4: holds no frame; give another file.\n"
    assert "RESULT" not in done.stdout


def test_a_reader_that_leaves_gets_no_traceback(script: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, str(script), "--help"], stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_bug_keeps_its_traceback(script: Path) -> None:
    done = run(script, "--mode", "bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_the_command_line_wins_over_the_later_file_over_the_earlier(
    script: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("value: 5\nother: {x: 1}\npart: {weight: 7}\n")
    (tmp_path / "b.yaml").write_text("value: 6\n")
    files = ["--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml")]
    assert result_of(run(script, *files))["value"] == 6
    result = result_of(run(script, "--value", "8", *files))
    assert (result["value"], result["weight"]) == (8, 7.0)


def test_an_unknown_key_in_a_file_is_an_error(script: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("valeu: 5\n")
    done = run(script, "--config", str(tmp_path / "a.yaml"))
    assert done.returncode == 2
    assert "a.yaml: unknown key 'valeu'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_option_is_refused_with_code_2(script: Path) -> None:
    done = run(script, "--valeu", "5")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "before"),
    [
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_IGN),  # in a shell's background, SIGINT is ignored
    ],
)
def test_a_stop_unwinds_and_says_how_to_go_on(
    script: Path, number: signal.Signals, before: signal.Handlers
) -> None:
    command = [sys.executable, str(script), "--mode", "wait"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, before),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "stopped; run the same command again to continue.\n"


@dataclass(frozen=True)
class Flat:
    value: int = 1


def test_config_without_a_path_and_missing_files() -> None:
    with pytest.raises(InputError, match="--config needs"):
        parse(Flat, "text", ["--config"])
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        parse(Flat, "text", ["--config", "nowhere.yaml"])


def test_sections_of_other_scripts_are_left_alone_but_not_other_keys() -> None:
    assert overlay_sections(Flat(), {"value": 2, "regions": {"threshold": 1}}, "f") == Flat(2)
    with pytest.raises(InputError, match="treshold"):
        overlay_sections(Flat(), {"treshold": 1}, "f")


@dataclass(frozen=True)
class WithPresets:
    value: int = 1
    other: int = 0

    @staticmethod
    def presets() -> dict[str, WithPresets]:
        return {"small": WithPresets(other=5), "large": WithPresets(value=9)}


def test_a_preset_lies_under_files_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("other: 7\n")
    assert parse(WithPresets, "text", []) == WithPresets(1, 5)
    assert parse(WithPresets, "text", ["--preset", "large"]) == WithPresets(9, 0)
    files = ["--config", str(path)]
    assert parse(WithPresets, "text", [*files, "--preset", "large"]) == WithPresets(9, 7)
    assert parse(WithPresets, "text", [*files, "--value", "2"]) == WithPresets(2, 7)
    with pytest.raises(InputError, match="'huge' is unknown; choose small or large"):
        parse(WithPresets, "text", ["--preset", "huge"])


@dataclass(frozen=True)
class Rates:
    rate: float = 0.1
    seed: int = 0


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("--rate nan", "rate must be a finite number, not nan"),
        ("--rate inf", "rate must be a finite number, not inf"),
        ("--seed 99999999999999999999", "seed is too large a number"),
    ],
)
def test_numbers_that_are_none_are_refused(argument: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"command line: {reason}"):
        parse(Rates, "", argument.split())


@pytest.mark.parametrize(
    "argv",
    [
        ["--size", "288", "512"],
        ["--size", "512x288"],
        ["--size=512x288"],
        ["--size", "512×288"],
        ["--frames", "images:a", "--size", "512X288", "--out", "b"],
    ],
)
def test_a_size_is_height_and_width_or_width_x_height(argv: list[str]) -> None:
    assert parse(PrepareConfig, "", argv).size == (288, 512)


def test_sizes_of_all_commands_may_be_written_so(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--finetune.size", "768x384", "--evaluate-size", "640x192", "--window=320x160"]
    config = parse(FinetuneConfig, "", argv)
    assert config.finetune.size == (384, 768) and config.evaluate_size == (192, 640)
    assert config.window == (160, 320)
    out = parse(PrepareConfig, "", ["--out", "512x288"]).out
    assert out == Path("512x288"), "a folder may have any name"
    for text in ("512x", "512x288x3"):
        with pytest.raises(InputError, match="--size"):
            parse(PrepareConfig, "", ["--size", text])
    for kind in (PrepareConfig, EvaluateConfig):
        with pytest.raises(SystemExit):
            parse(kind, "", ["--help"])
        assert "WIDTHxHEIGHT" in capsys.readouterr().out


def test_a_preset_of_a_section_is_where_its_defaults_come_from() -> None:
    paper = RegionConfig.presets()["paper"]
    config = parse(PrepareConfig, "", ["--regions.preset=paper", "--regions.gain", "40"])
    assert config.regions == replace(paper, gain=40.0)
    assert parse(PrepareConfig, "", []).regions == RegionConfig() != paper
    with pytest.raises(InputError, match="'papr' is unknown; choose default or paper"):
        parse(PrepareConfig, "", ["--regions.preset", "papr"])
    with pytest.raises(InputError, match="choose default or paper"):
        parse(PrepareConfig, "", ["--regions.preset"])
