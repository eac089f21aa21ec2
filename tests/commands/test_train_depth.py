"""The command train_depth from its frames to its result, and what it says of a bad network."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from cpcdr.commands.train_depth import _as_recorded, _report_camera, train_depth
from cpcdr.depth.camera import LearnedCamera
from cpcdr.depth.config import SMALL
from cpcdr.depth.network import load_depth_network
from cpcdr.depth.sources import open_depth
from cpcdr.depth.street import PACKAGED, load_street_network, save_street_network
from cpcdr.frames import FrameOptions, open_frames
from cpcdr.runtime.checkpoint import read_checkpoint, read_state, write_checkpoint
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import open_run
from cpcdr.runtime.tracking.store import tracking_uri
from cpcdr.train.config import EngineConfig, TrainConfig, TrainDepthConfig
from cpcdr.train.depth_task import TINY, DepthTask

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "train_depth.py"
NO_COMPILER = {"CXX": "/not/a/compiler", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}


def config(folder: Path) -> TrainDepthConfig:
    """Two steps on five frames that lie on disk, larger than the network sees them."""
    street = open_frames("synthetic:seed=5,streets=1,frames=5,height=72,width=192")
    (folder / "drive").mkdir()
    for i, ref in enumerate(street.refs()):
        (folder / "drive" / f"{i}.jpg").write_bytes(street.read(ref).encoded)
    return TrainDepthConfig(
        frames=f"images:{folder / 'drive'}",
        out=folder / "run",
        depth=replace(TINY, channels=8, height=64, width=128, batch_size=2, intrinsics="learn"),
        train=TrainConfig(steps=2, optimizer="adamw", lr=1e-4),
        engine=EngineConfig("local"),
    )


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 5)])
def test_pictures_are_the_way_they_were_recorded(shape: tuple[int, ...]) -> None:
    recorded = torch.rand(shape)
    seen = torch.stack([recorded[0].flip(-1), recorded[1]])
    assert torch.equal(_as_recorded(seen, torch.tensor([True, False])), recorded)


def tags(run_id: str) -> dict[str, str]:
    return MlflowClient(tracking_uri()).get_run(run_id).data.tags


def test_the_command_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config(tmp_path)
    result = train_depth(settings)
    assert result["steps"] == 2 and result["triplets"] == 3 and result["photometric"] > 0
    assert load_depth_network(result["checkpoint"]).config == settings.depth
    assert (tmp_path / "run" / "depth.png").stat().st_size > 1000

    # The learned camera, ready to be given, in pixels of the files.
    assert result["intrinsics"] == "learned"
    printed = capsys.readouterr().out
    assert "intrinsics learned." in printed
    assert f"--options.intrinsics {result['learned_intrinsics']} (" in printed
    given = FrameOptions(intrinsics=result["learned_intrinsics"])
    source = open_frames(settings.frames, given)
    fx, _, cx, cy = source.read(source.refs()[0]).intrinsics.tolist()
    # 192×72 was scaled by 64/72 to cover 128×64, where the focal length began as that of 60°.
    assert fx == pytest.approx(128 * 0.866 * 72 / 64, rel=0.01)
    assert (cx, cy) == (pytest.approx(95.5, abs=1), pytest.approx(35.5, abs=1))
    assert result["learned_fov"] == pytest.approx(75.1, abs=0.5)
    assert tags(result["run_id"])["cpcdr.intrinsics"] == result["learned_intrinsics"]


@pytest.mark.parametrize("turning", [0.0, 0.01, 0.3])
def test_where_hardly_any_frame_turns_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], turning: float
) -> None:
    settings = config(tmp_path)
    task = DepthTask(settings.depth, open_frames(settings.frames))
    camera = LearnedCamera((100.0, 100.0, 63.5, 31.5), (64, 128))
    rows = [{"turning": 1.0}] * 3 + [{"turning": turning}] * 3
    with open_run(TrackingConfig("none"), "depth", "key", {}, tmp_path / "run") as run:
        said = _report_camera(task, camera, rows, run)
    assert said["turning"] == turning
    printed = capsys.readouterr().out
    assert f"from the {turning:.1%} of the triplets" in printed
    assert ("warning: too little rotation in this video" in printed) == (turning < 0.02)


@pytest.mark.slow
def test_a_compiler_that_does_not_work_is_said(tmp_path: Path) -> None:
    settings = config(tmp_path)
    command = [sys.executable, str(SCRIPT), "--frames", settings.frames, "--out", str(settings.out)]
    command += ["--depth.height", "64", "--depth.width", "128", "--depth.channels", "8"]
    command += ["--engine", "local", "--tracking", "none", "--train.steps", "2"]

    def run(choice: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--train.compile", choice],
            env={**os.environ, **NO_COMPILER, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    refused = run("yes")
    assert refused.returncode == 2, refused.stderr
    assert (
        "--train.compile does not work here: InvalidCxxCompiler, No working C++" in refused.stderr
    )
    assert "with --train.compile no." in refused.stderr and "Traceback" not in refused.stderr
    followed = run("no")
    assert followed.returncode == 0, followed.stderr


def test_holes_of_infinite_depth_are_said_and_mark_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(tmp_path)
    train_depth(settings)
    newest = tmp_path / "run/checkpoints/step-00000002"
    (values, weights), state = read_checkpoint(newest, "depth"), read_state(newest)
    weights["depth.slope"] = torch.full_like(weights["depth.slope"], -6.0)  # near above, far below
    for name in [name for name in weights if name.startswith("depth.heads")]:
        weights[name] = torch.full_like(weights[name], -6.0) if "bias" in name else weights[name]
    write_checkpoint(newest.parent, 2, values, weights, state)
    capsys.readouterr()
    result = train_depth(settings)  # all steps are done: the finished network is checked
    (warning,) = [w for w in capsys.readouterr().out.splitlines() if "infinitely far" in w]
    assert warning.startswith("warning: ") and "of the lower image" in warning
    assert "infinitely far" in tags(result["run_id"])["cpcdr.alarm"]


def test_other_options_or_frames_are_another_training(tmp_path: Path) -> None:
    settings = replace(config(tmp_path), tracking=TrackingConfig("none"))
    settings = replace(settings, depth=replace(settings.depth, intrinsics="known"))
    first = train_depth(settings)
    assert train_depth(settings)["config_hash"] == first["config_hash"]
    corrected = FrameOptions(intrinsics="150,150,95.5,35.5")
    with pytest.raises(InputError, match=r"a training with other settings: .*inputs\.options"):
        train_depth(replace(settings, options=corrected))
    elsewhere = train_depth(replace(settings, options=corrected, out=tmp_path / "other"))
    assert elsewhere["config_hash"] != first["config_hash"]
    (tmp_path / "drive" / "2.jpg").write_bytes((tmp_path / "drive" / "3.jpg").read_bytes())
    with pytest.raises(InputError, match=r"a training with other settings: .*inputs\.frames"):
        train_depth(settings)


def from_the_package(folder: Path, start: str = "street", lr: float = 1e-3) -> TrainDepthConfig:
    """A few steps on a short drive, from the network in the package."""
    drive = "synthetic:seed=8,streets=1,frames=44,height=64,width=128"
    return TrainDepthConfig(
        frames=drive,
        out=folder,
        depth=replace(SMALL, start=start, channels=8, batch_size=2, height=64, width=128),
        train=TrainConfig(steps=4, optimizer="adamw", lr=lr, checkpoint_every=2),
        engine=EngineConfig("local"),
        tracking=TrackingConfig("none"),
    )


@pytest.mark.parametrize("lr", [1e-3, 0.3])
def test_the_better_of_start_and_training_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lr: float
) -> None:
    result = train_depth(from_the_package(tmp_path / "run", lr=lr))
    model = load_depth_network(result["checkpoint"])
    start = load_street_network(PACKAGED).state_dict()
    same = all(torch.equal(value, start[name]) for name, value in model.depth.state_dict().items())
    assert same == (result["kept"] == "start")
    assert (result["held_out"] < 1) == (result["kept"] == "trained")
    printed = capsys.readouterr().out
    assert "On held-out frames" in printed and "Trained at 128×64 pixels" in printed
    if lr == 0.3:  # that ruins any network
        assert same and "the network it started from is no worse" in printed
    again = train_depth(from_the_package(tmp_path / "run", lr=lr))
    unlike = ("seconds", "seconds_per_step", "data_wait_fraction", "run_id")
    assert all(again[name] == value for name, value in result.items() if name not in unlike)


def test_too_few_frames_to_hold_any_out_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = from_the_package(tmp_path / "run")
    short = replace(settings, frames=settings.frames.replace("frames=44", "frames=6"))
    result = train_depth(short)
    assert "kept" not in result and "Too few frames to hold any out" in capsys.readouterr().out


def test_a_checkpoint_sees_what_the_package_sees(tmp_path: Path) -> None:
    """Before any training, at the network's own size, in metres of the frame's camera."""
    task = DepthTask(
        from_the_package(tmp_path).depth,
        open_frames("synthetic:seed=8,streets=1,frames=3,height=64,width=128"),
    )
    values = {"kind": "depth", "config": task.config()}
    folder = write_checkpoint(tmp_path, 1, values, task.build().state_dict(), {})
    frame = task.source.read(task.source.refs()[1])
    (seen,) = open_depth(f"network:{folder}")([frame])
    network = load_street_network(PACKAGED)
    with torch.no_grad():
        pixels = torch.from_numpy(frame.image).permute(2, 0, 1)[None] / 255
        expected = network(pixels)[0, 0].exp() / float(frame.intrinsics[0])
    assert np.abs(np.log(seen / expected.clamp(0.005, 1).numpy())).max() < 1e-3


def test_other_weights_to_start_from_are_another_training(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    network = load_street_network(PACKAGED)
    save_street_network(file, network)
    settings = from_the_package(tmp_path / "run", f"street:{file}")
    first = train_depth(settings)
    file.unlink()
    with pytest.raises(InputError, match=r"own\.safetensors"):
        train_depth(settings)
    assert load_depth_network(first["checkpoint"]).config.start == f"street:{file}"
    torch.nn.init.zeros_(network.head.weight)
    save_street_network(file, network)
    with pytest.raises(InputError, match=r"a training with other settings: .*inputs\.start"):
        train_depth(settings)
