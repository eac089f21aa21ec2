"""The configurations of the commands that ``cpcdr run`` calls, one after the other."""

from dataclasses import dataclass
from pathlib import Path

from cpcdr.commands.config import RunConfig
from cpcdr.evaluate.config import EvaluateConfig
from cpcdr.frames import KINDS
from cpcdr.frames.video import VIDEO_SUFFIXES
from cpcdr.prepare.config import PrepareConfig
from cpcdr.segment.config import SegmentConfig
from cpcdr.train.config import EngineConfig, PretrainConfig


@dataclass(frozen=True)
class Stages:
    """What each command is asked to do; ``evaluate`` is None without labels."""

    prepare: PrepareConfig
    pretrain: PretrainConfig
    segment: SegmentConfig
    evaluate: EvaluateConfig | None


def stages_of(config: RunConfig) -> Stages:
    """The stages without what the plan decides: all frames, and the usual number of steps."""
    frames, out, tracking = frames_spec(config.video), config.out, config.tracking
    preparation = PrepareConfig(
        frames=frames,
        depth=config.depth,
        out=out / "data",
        engine=config.engine,
        allow_poor_depth=config.allow_poor_depth,
        options=config.options,
        tracking=tracking,
    )
    training = PretrainConfig(
        data=out / "data",
        out=out / "pretrain",
        seed=config.seed,
        engine=EngineConfig(engine=config.engine),
        tracking=tracking,
    )
    network = out / "pretrain" / "checkpoint"
    segmentation = SegmentConfig(
        network=str(network),
        frames=frames,
        out=out / "segmented.mp4",
        clusters=config.clusters,
        legend=True,
        engine=config.engine,
        options=config.options,
    )
    evaluation = EvaluateConfig(
        network=network,
        frames=config.labels,
        out=out / "evaluation",
        engine=config.engine,
        seed=config.seed,
        tracking=tracking,
    )
    return Stages(preparation, training, segmentation, evaluation if config.labels else None)


def frames_spec(video: str) -> str:
    """``KIND:PATH`` of what was given: that itself, a video, or a folder of videos or images.

    >>> frames_spec("drive.mp4"), frames_spec("kitti-raw:KITTI")
    ('video:drive.mp4', 'kitti-raw:KITTI')
    """
    kind, colon, _ = video.partition(":")
    if colon and kind in KINDS:
        return video
    folder = Path(video).expanduser()
    if not folder.is_dir():
        return f"video:{video}"
    films = any(path.suffix.lower() in VIDEO_SUFFIXES for path in folder.rglob("*"))
    return f"{'video' if films else 'images'}:{video}"
