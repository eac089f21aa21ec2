"""How much of each stage fits into a given time, by the measured speed of the machine."""

import contextlib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cpcdr.commands.prepare import prepare
from cpcdr.commands.pretrain import pretrain
from cpcdr.commands.running.stages import Stages
from cpcdr.commands.segment import segment
from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase
from cpcdr.runtime.tables import text_table
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.history import read_history

PREPARE, SEGMENT, RESERVE = 0.25, 0.4, 0.05
"""Parts of the time that preparation and segmentation may take at most, and that is kept back."""
FEWEST_STEPS, MOST_STEPS = 40, 20_000
"""Of the pre-training, whatever the time."""
_FEWEST_FRAMES = 24
_SEGMENTERS = 3
"""That evaluation compares: the network, the untrained one, and colours."""
_TRIAL_FRAMES, _TRIAL_STEPS = (8, 8, 24), 6
"""The first trial only warms up; all check the depth of as many frames."""


@dataclass(frozen=True)
class Speed:
    """Seconds of a prepared frame, a step of the pre-training, a segmented frame."""

    frame: float
    step: float
    picture: float


@dataclass(frozen=True)
class Plan:
    """How much of each stage is done.

    Attributes:
        frames: that the source has.
        prepared: of them that are prepared, spread evenly.
        steps: of the pre-training.
        segmented: frames that are segmented, from the beginning of each sequence.
        speed: that was measured.
        scored: labelled frames.
    """

    frames: int
    prepared: int
    steps: int
    segmented: int
    speed: Speed
    scored: int = 0

    @property
    def seconds(self) -> dict[str, float]:
        """Expected of each stage."""
        speed = self.speed
        seconds = {
            "prepare": self.prepared * speed.frame,
            "pretrain": self.steps * speed.step,
            "segment": self.segmented * speed.picture,
        }
        scoring = {"evaluate": self.scored * _SEGMENTERS * speed.picture}
        return seconds | (scoring if self.scored else {})

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    @property
    def amounts(self) -> dict[str, str]:
        """What each stage does, in words."""
        return {
            "prepare": f"{self.prepared} of {self.frames} frames",
            "pretrain": f"{self.steps} steps",
            "segment": f"{self.segmented} of {self.frames} frames",
            "evaluate": f"{self.scored} labelled frames",
        }

    def table(self, end: bool = True) -> str:
        """The plan, as it is printed.

        Args:
            end: say when a run that starts now ends; of one that resumes it is not known.
        """
        seconds = self.seconds
        rows = [[f"  {n}", self.amounts[n], duration(seconds[n])] for n in seconds]
        done = time.strftime("%H:%M", time.localtime(time.time() + self.total))
        rows.append(["  all", "", duration(self.total) + (f", done about {done}" if end else "")])
        return text_table(rows)

    def applied(self, stages: Stages, sequences: int) -> Stages:
        """The stages with what is planned of each."""
        options, train = stages.prepare.options, stages.pretrain.train
        if self.prepared < self.frames:
            options = replace(options, limit=self.prepared)
        every = max(10, self.steps // 10)
        watched = stages.segment.options
        if self.segmented < self.frames:
            watched = replace(watched, window=f"0:{-(-self.segmented // sequences)}")
        return replace(
            stages,
            prepare=replace(stages.prepare, options=options),
            pretrain=replace(
                stages.pretrain, train=replace(train, steps=self.steps, checkpoint_every=every)
            ),
            segment=replace(stages.segment, options=watched),
        )


def plan_for(
    seconds: float, frames: int, speed: Speed, whole: bool = False, scored: int = 0
) -> Plan:
    """The plan that fits into a time, or takes more where that allows too little.

    Args:
        whole: segment every frame, whatever it takes.
        scored: labelled frames, all of which are scored.
    """
    prepared = min(frames, max(_FEWEST_FRAMES, int(PREPARE * seconds / speed.frame)))
    segmented = min(frames, max(_FEWEST_FRAMES, int(SEGMENT * seconds / speed.picture)))
    segmented = frames if whole else segmented
    without = Plan(frames, prepared, 0, segmented, speed, scored)
    left = (1 - RESERVE) * seconds - without.total
    return replace(without, steps=min(MOST_STEPS, max(FEWEST_STEPS, int(left / speed.step))))


def plan_of(values: dict[str, Any]) -> Plan:
    """The plan that ``dataclasses.asdict`` made plain.

    Raises:
        InputError: something is missing in it, or is no number.
    """
    try:
        return Plan(**{**values, "speed": Speed(**values["speed"])})
    except (KeyError, TypeError) as error:
        raise InputError(
            "plan.json is no plan of cpcdr run; delete it and run this again."
        ) from error


@phase("measuring this machine")
def measure(stages: Stages, out: Path) -> Speed:
    """The speed of this machine: every stage on a few frames, in a folder that is deleted."""
    with TemporaryDirectory(dir=out, prefix=".trial-") as scratch, _quiet():
        folder, none = Path(scratch), TrackingConfig("none")
        trial = replace(stages.prepare, allow_poor_depth=True, tracking=none)
        frame = _seconds_per_frame(trial, folder)
        train = replace(stages.pretrain.train, steps=_TRIAL_STEPS, log_every=2)
        data, pretrained = folder / f"{len(_TRIAL_FRAMES) - 1}", folder / "pretrain"
        training = replace(stages.pretrain, data=data, out=pretrained, train=train, tracking=none)
        network = pretrain(training)["checkpoint"]
        step = read_history(pretrained / "history.jsonl")[-1]["seconds_per_step"]
        options = replace(stages.segment.options, limit=_TRIAL_FRAMES[-1])
        watched = replace(stages.segment, network=network, options=options)
        done = segment(replace(watched, out=folder / "trial.mp4"))
    return Speed(max(frame, 1e-3), max(step, 1e-3), 1 / max(1e-3, done["frames_per_second"]))


def _seconds_per_frame(trial: PrepareConfig, folder: Path) -> float:
    """Of preparation, without what a start takes and the first call compiles."""
    counts, times = [], []
    for number, limit in enumerate(_TRIAL_FRAMES):
        options = replace(trial.options, limit=limit)
        done = prepare(replace(trial, out=folder / f"{number}", options=options))
        counts.append(done["frames"])
        times.append(done["seconds"])
    mean = times[-1] / counts[-1]
    if counts[-1] == counts[-2]:
        return mean
    return max((times[-1] - times[-2]) / (counts[-1] - counts[-2]), mean / 10)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the stages print of a trial is printed again when they are run; bars are shown."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(48), duration(150), duration(4000)
    ('48 s', '2.5 min', '1.1 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
