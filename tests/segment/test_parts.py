"""Segmentation that is stopped anywhere: what is complete is kept, and the end is the same."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cpcdr.commands.segment import segment
from cpcdr.frames import FrameRef, get_protocol
from cpcdr.model.config import ModelConfig
from cpcdr.model.finetuned import FinetuneModule
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.segment import parts
from cpcdr.segment.config import SegmentConfig
from cpcdr.segment.writers import LabelFiles, OverlayVideo
from cpcdr.train.finetune_config import FinetuneSettings

MODEL = ModelConfig("resnet10", 8, 16, 32, 16, 40)
STREET = "synthetic:seed=3,streets=2,frames=9,height=64,width=128"


def network(folder: Path, seed: int) -> str:
    torch.manual_seed(seed)
    weights = FinetuneModule(MODEL, len(get_protocol("synthetic").classes)).state_dict()
    settings = FinetuneSettings(model=MODEL, size=(64, 128))
    values = {"kind": "finetune", "config": {**to_plain(settings), "protocol": "synthetic"}}
    return str(write_checkpoint(folder, 1, values, weights, {}))


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> str:
    return network(tmp_path_factory.mktemp("finetuned"), 0)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Stops:
    """Counts calls of a method, and stops the command at one of them."""

    def __init__(self, method: Callable[..., None]) -> None:
        self.method, self.calls, self.at = method, 0, -1

    def patch(self) -> Callable[..., None]:
        def add(*arguments: Any) -> None:
            self.calls += 1
            if self.calls == self.at:
                raise KeyboardInterrupt
            self.method(*arguments)

        return add


@pytest.mark.parametrize(("out", "labels"), [("a.mp4", False), ("videos", False), ("ids", True)])
def test_stopped_at_any_frame_it_ends_as_if_it_were_not(
    tmp_path: Path, finetuned: str, out: str, labels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FRAMES_OF_A_PART", 4)
    writer = LabelFiles if labels else OverlayVideo
    stops = Stops(writer.add)
    monkeypatch.setattr(writer, "add", stops.patch())
    config = SegmentConfig(finetuned, STREET, tmp_path / "whole" / out, labels, engine="local")
    assert segment(config)["frames"] == stops.calls == 18
    whole = files(tmp_path / "whole")
    assert len(whole) == (19 if labels else 2 if out == "a.mp4" else 3)
    # Parts of 4, 4, 4, 4, 2 frames of one video; of 4, 4, 1, 4, 4, 1 of two sequences.
    complete = {3: 0, 5: 4, 10: 8 if out == "a.mp4" else 9, 18: 16 if out == "a.mp4" else 17}
    for at, kept in complete.items():
        config = replace(config, out=tmp_path / str(at) / out)
        stops.calls, stops.at = 0, at
        with pytest.raises(KeyboardInterrupt):
            segment(config)
        assert bool(list((tmp_path / str(at)).rglob("*.parts"))) == (kept > 0)
        if out == "videos" and at == 10:
            assert len(list(config.out.glob("*.mp4"))) == 1, "a whole video is there at once"
        stops.calls, stops.at = 0, -1
        result = segment(config)
        assert (result["frames"], stops.calls) == (18, 18 - kept)
        assert files(tmp_path / str(at)) == whole


def test_what_another_command_began_is_kept(
    tmp_path: Path, finetuned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FRAMES_OF_A_PART", 4)
    stops = Stops(OverlayVideo.add)
    monkeypatch.setattr(OverlayVideo, "add", stops.patch())
    config = SegmentConfig(finetuned, STREET, tmp_path / "a.mp4", engine="local")
    stops.at = 6
    with pytest.raises(KeyboardInterrupt):
        segment(config)
    renamed = tmp_path / "renamed"  # the same weights, other classes
    shutil.copytree(finetuned, renamed)
    settings = yaml.safe_load((renamed / "config.yaml").read_text())
    settings["config"]["size"] = [32, 64]
    (renamed / "config.yaml").write_text(yaml.safe_dump(settings))
    others: list[SegmentConfig] = [
        replace(config, opacity=0.7),
        replace(config, network=str(renamed)),
        replace(config, network=network(tmp_path / "other", 1)),
        replace(config, frames=STREET.replace("seed=3", "seed=4")),
    ]
    for other in others:
        with pytest.raises(InputError, match=r"\.a\.mp4\.parts: was begun with another network"):
            segment(other)
    stops.calls, stops.at = 0, -1
    assert segment(config)["frames"] == 18 and stops.calls == 14
    assert segment(others[0])["frames"] == 18, "nothing is left of the first"


def stopped(config: SegmentConfig, at: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a stop at a frame leaves."""
    writer = LabelFiles if config.labels else OverlayVideo
    stops = Stops(writer.add)
    stops.at = at
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writer, "add", stops.patch())
        segment(config)
    (folder,) = config.out.parent.rglob("*.parts")
    return folder


def test_a_folder_may_be_named_from_elsewhere(
    tmp_path: Path, finetuned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FRAMES_OF_A_PART", 4)
    monkeypatch.chdir(tmp_path)
    config = SegmentConfig(finetuned, STREET, Path("o"), engine="local")
    stopped(config, 15, monkeypatch)
    stops = Stops(OverlayVideo.add)
    monkeypatch.setattr(OverlayVideo, "add", stops.patch())
    assert segment(replace(config, out=tmp_path / "o"))["frames"] == 18
    assert stops.calls == 18 - 9 - 4, "neither the whole video nor the whole part again"


@pytest.mark.parametrize("labels", [False, True])
def test_what_is_gone_is_made_again(
    tmp_path: Path, finetuned: str, labels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FRAMES_OF_A_PART", 4)
    whole = SegmentConfig(finetuned, STREET, tmp_path / "whole" / "o", labels, engine="local")
    segment(whole)
    for number, at in enumerate((7, 12, 16)):
        config = replace(whole, out=tmp_path / str(number) / "o")
        folder = stopped(config, at, monkeypatch)
        made = sorted(
            [*folder.glob("*.mp4"), *config.out.rglob("*/*.png"), *config.out.glob("*.mp4")]
        )
        assert made
        made[0].write_bytes(b"") if number else made[0].unlink()
        assert segment(config)["frames"] == 18
        assert files(config.out.parent) == files(tmp_path / "whole")


def test_stopped_at_any_change_of_a_file_it_ends_well(
    tmp_path: Path, finetuned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FRAMES_OF_A_PART", 9)
    names = ((parts, "join"), (parts, "write_json"), (Path, "unlink"), (Path, "replace"))
    config = SegmentConfig(finetuned, STREET, tmp_path / "whole" / "o", engine="local")
    segment(config)
    for at in range(1, 100):
        config, calls = replace(config, out=tmp_path / str(at) / "o"), [0]

        def stopping(method: Callable[..., Any], calls: list[int] = calls, at: int = at) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                if str(arguments[0]).endswith(".lock"):  # it would stay with this very process
                    return method(*arguments, **named)
                calls[0] += 1
                if calls[0] == at:
                    raise KeyboardInterrupt
                return method(*arguments, **named)

            return call

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            for owner, name in names:
                patch.setattr(owner, name, stopping(getattr(owner, name)))
            segment(config)
        assert segment(config)["frames"] == 18
        assert files(config.out.parent) == files(tmp_path / "whole")
        if calls[0] < at:
            break
    assert at > 10


def test_damage_is_a_sentence(
    tmp_path: Path, finetuned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FRAMES_OF_A_PART", 4)
    config = SegmentConfig(finetuned, STREET, tmp_path / "a.mp4", engine="local")
    folder = stopped(config, 10, monkeypatch)
    state = (folder / "state.json").read_text()
    for text, words in (("{}", "is damaged"), ("[", "is damaged"), (state, "cannot be joined")):
        (folder / "state.json").write_text(text)
        (folder / "00001.mp4").write_bytes(b"torn")
        with pytest.raises(InputError, match=f"{words}.*delete"):
            segment(config)
    assert not list(tmp_path.glob(".*partial*"))


def test_files_that_two_outputs_would_share_are_refused(tmp_path: Path, finetuned: str) -> None:
    refs = [FrameRef(name, 0) for name in ("a/b", "a-b")]
    with pytest.raises(InputError, match=r"a-b\.mp4: would hold both a/b and a-b; rename"):
        parts.cut(SegmentConfig(out=tmp_path), refs, {})
    assert len(parts.cut(SegmentConfig(out=tmp_path, labels=True), refs, {})) == 2
    (tmp_path / "out" / "street-003-000.mp4").mkdir(parents=True)
    config = SegmentConfig(finetuned, STREET, tmp_path / "out", engine="local")
    with pytest.raises(InputError, match=r"street-003-000\.mp4: is a folder"):
        segment(config)
    (tmp_path / ".a.mp4.parts").touch()
    with pytest.raises(InputError, match=r"\.a\.mp4\.parts: cannot be made"):
        segment(replace(config, out=tmp_path / "a.mp4"))


KILLED = """
import sys
from cpcdr.segment import parts
parts.FRAMES_OF_A_PART = 4
from cpcdr.commands import run_command
run_command("segment", sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "number", "code"), [("local", signal.SIGKILL, -9), ("ray", signal.SIGINT, 130)]
)
def test_a_killed_process_is_continued(
    tmp_path: Path,
    finetuned: str,
    engine: str,
    number: int,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = STREET.replace("frames=9", "frames=30")
    out = tmp_path / "stopped" / "a.mp4"
    options = ["--network", finetuned, "--frames", frames, "--out", str(out), "--engine", engine]
    command = [sys.executable, "-c", KILLED, *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        # A test runner may itself be a background job, whose children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    third, deadline = out.with_name(".a.mp4.parts") / "00002.mp4", time.monotonic() + 300
    while not third.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code and not out.exists(), errors
    assert ("run the same command again to continue." in errors) == (code == 130)
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert " of 60 frames.\n" in again.stdout
    monkeypatch.setattr(parts, "FRAMES_OF_A_PART", 4)
    segment(SegmentConfig(finetuned, frames, tmp_path / "whole" / "a.mp4", engine="local"))
    assert files(out.parent) == files(tmp_path / "whole")
