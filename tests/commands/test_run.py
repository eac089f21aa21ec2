"""From a video to a segmented video and a report."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cpcdr.commands.config import RunConfig
from cpcdr.commands.run import run
from cpcdr.commands.running.plan import FEWEST_STEPS, Plan, Speed, plan_for, plan_of
from cpcdr.commands.running.stages import frames_spec, stages_of
from cpcdr.frames import open_frames
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig

SPEED = Speed(frame=0.2, step=1.5, picture=0.25)
STREET = "synthetic:seed=3,streets=3,frames=10,height=64,width=128"


@pytest.mark.parametrize("hours", [0.05, 0.5, 1.0, 8.0])
@pytest.mark.parametrize("frames", [30, 221, 100_000])
@pytest.mark.parametrize("scored", [0, 10])
def test_a_plan_uses_its_time_and_keeps_to_it(hours: float, frames: int, scored: int) -> None:
    plan = plan_for(3600 * hours, frames, SPEED, scored=scored)
    assert ("evaluate" in plan.seconds) == bool(scored)
    needed = sum(plan.seconds.values())
    assert needed <= 3600 * hours or plan.steps == FEWEST_STEPS
    assert plan.steps == 20_000 or needed > 0.9 * 3600 * hours or plan.steps == FEWEST_STEPS
    assert plan.seconds["pretrain"] >= 0.25 * needed
    assert plan.prepared <= frames and plan.segmented <= frames
    assert plan_of(json.loads(json.dumps(to_plain(plan)))) == plan


def test_little_time_still_makes_something_and_more_makes_more() -> None:
    little, much = (plan_for(seconds, 500, SPEED) for seconds in (-5.0, 7200.0))
    assert (little.prepared, little.steps, little.segmented) == (24, FEWEST_STEPS, 24)
    assert (much.prepared, much.segmented) == (500, 500) and much.steps > 4000
    assert plan_for(10.0, 500, SPEED, whole=True).segmented == 500
    assert "done about" in much.table() and "done about" not in much.table(end=False)
    slow = plan_for(7200.0, 500, replace(SPEED, step=15.0))
    assert 9 < much.steps / slow.steps < 11


def test_the_stages_do_what_is_planned() -> None:
    stages = stages_of(RunConfig(STREET))
    plan = Plan(frames=30, prepared=12, steps=80, segmented=9, speed=SPEED)
    applied = plan.applied(stages, sequences=3)
    assert applied.pretrain.train.steps == 80 and applied.prepare.options.limit == 12
    for config, count in ((applied.prepare, 12), (applied.segment, 9)):
        assert len(open_frames(config.frames, config.options).refs()) == count
    everything = replace(plan, prepared=30, segmented=30).applied(stages, 3)
    assert everything.prepare == stages.prepare and everything.segment == stages.segment


def test_a_video_may_be_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "1.png").write_bytes(b"x")
    assert frames_spec(str(tmp_path)) == f"images:{tmp_path}"
    (tmp_path / "day" / "a.MP4").write_bytes(b"x")
    assert frames_spec(str(tmp_path)) == f"video:{tmp_path}"
    assert frames_spec(STREET) == STREET and frames_spec("a.mp4") == "video:a.mp4"


def test_what_cannot_be_run_is_refused_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for changes, words in (
        ({"video": "gone.mp4"}, r"gone\.mp4 does not exist"),
        ({"labels": "camvid:gone"}, "gone"),
    ):
        with pytest.raises(InputError, match=words):
            run(replace(RunConfig(STREET, out), **changes))
    with pytest.raises(InputError, match="--hours 0 must be positive"):
        RunConfig(hours=0)
    assert not out.exists()
    out.mkdir()
    (out / "plan.json").write_text("{}")
    with pytest.raises(InputError, match=r"plan\.json is no plan of cpcdr run; delete it"):
        run(RunConfig(STREET, out))


@pytest.mark.slow
def test_the_chain_ends_in_a_video_and_a_report_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a run"
    config = RunConfig(STREET, out, hours=0.001, labels=STREET, tracking=TrackingConfig("none"))
    first = run(config)
    printed = capsys.readouterr().out
    assert printed.index("Measuring") < printed.index("The plan:") < printed.index("prepare: ")
    assert first["steps"] == FEWEST_STEPS and first["frames"] == first["segmented_frames"] == 24
    assert 0 < first["miou"] < 1 and Path(first["video"]) == out / "segmented.mp4"
    assert not list(out.glob(".trial-*"))
    page = html.unescape((out / "report.html").read_text())
    assert page.count("data:image/png;base64,") == 4 and "src=segmented.mp4" in page
    for words in (
        "40 steps",
        "24 of 30 frames",
        "6 of 30 frames were not prepared",
        "Scores",
        "30 labelled frames",
        "0 frames were rejected",
        "ground_inliers",
        "near 1 is good",
        f"--network '{out}/pretrain/checkpoint'",
    ):
        assert words in page, words
    # Again: nothing is measured or segmented a second time.
    video = (out / "segmented.mp4").stat().st_mtime_ns
    again = run(config)
    assert again == first and (out / "segmented.mp4").stat().st_mtime_ns == video
    assert "Measuring" not in capsys.readouterr().out
    # What is missing is made again, as it was.
    whole = (out / "segmented.mp4").read_bytes()
    (out / "segmented.mp4").unlink()
    run(config)
    assert (out / "segmented.mp4").read_bytes() == whole
    with pytest.raises(InputError, match=r"holds a run with other settings: hours 0\.001 -> 2"):
        run(replace(config, hours=2.0))
