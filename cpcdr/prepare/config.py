"""What is prepared: frames, depth, regions and the folder of the dataset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from cpcdr.depth.config import default_depth
from cpcdr.frames.frame import FrameOptions
from cpcdr.frames.resize import PIXELS
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import Engine, to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig

_FEWEST = 64 * 64
"""Pixels of the smallest size that may be chosen."""


@dataclass(frozen=True)
class PrepareConfig:
    """Frames in, a dataset of frames with disparity and coherent depth regions out.

    Attributes:
        frames: ``KIND:PATH``; kinds are synthetic, video, images, cityscapes, kitti-raw,
            kitti-odometry, kitti-semantics, camvid, idd-lite.
        depth: ``street`` (the network in this package; ``street:FILE`` with weights by cpcdr
            train-street), ``network:CHECKPOINT`` (from cpcdr train-depth), ``ground-truth``
            (synthetic street), ``velodyne:`` (laser scans of KITTI raw recordings, sparse),
            ``precomputed:ROOT`` (16-bit PNG: the released code's tree, Cityscapes' disparity or
            KITTI's depth), ``stereo:`` (right images), ``hf:FOLDER-or-name`` (transformers);
            empty: ``ground-truth`` for the synthetic street, else ``street``.
        out: the dataset folder to make; run the same command again to continue or re-use it.
        size: height and width of the prepared frames, or WIDTHxHEIGHT: scaled to cover it, then
            centre-cropped; 0 0: chosen to show all of the picture (with ``region_maps``: each
            frame's own).
        pixels: the most that a chosen size has; frames with fewer keep their size.
        engine: ``ray``, or ``local``: one frame after the other in this process, without Ray.
        workers: actors on CPUs; 0: one for each CPU core. Give the number on a
            cluster that starts its machines on demand.
        gpus: actors on GPUs for depth networks; -1: as many as fit on the available GPUs.
        gpus_per_actor: the part of a GPU that one of them takes: 0.25 puts four on a GPU, which
            small networks need to keep it busy.
        frames_per_part: frames that one part file holds, and that a kill can cost.
        compression: of disparity, regions and superpixels; ``lz4`` is read a fifth sooner from 5 %
            more bytes, which a fast local disk does not notice.
        region_maps: a folder of region maps in 16-bit PNG files (the released code's ``region/``)
            that are taken instead of grouping.
        regroup: a prepared dataset whose cached graphs are grouped again with the thresholds of
            ``regions`` (gain, bias, separation, min-superpixels, preferred-modules); no frame,
            depth or superpixel is computed, and ``frames`` and ``depth`` are not used.
        publish: where the finished dataset is copied, such as ``s3://bucket/dataset``; readers see
            it only when it is whole.
        allow_poor_depth: continue even if the check of depth or of regions on some frames fails.
        dashboard: start Ray's dashboard, for this machine and its user only.
    """

    essential: ClassVar[str] = (
        "frames depth out size workers regroup publish engine tracking options.stride"
    )
    frames: str = "synthetic:"
    depth: str = ""
    out: Path = Path("runs/dataset")
    size: tuple[int, int] = (0, 0)
    pixels: int = PIXELS
    engine: Engine = "ray"
    workers: int = 0
    gpus: int = -1
    gpus_per_actor: float = 1.0
    frames_per_part: int = 32
    compression: Literal["zstd", "lz4"] = "zstd"
    region_maps: Path | None = None
    regroup: Path | None = None
    publish: str = ""
    allow_poor_depth: bool = False
    dashboard: bool = False
    options: FrameOptions = field(default_factory=FrameOptions)
    regions: RegionConfig = field(default_factory=RegionConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if not 0 < self.gpus_per_actor <= 1:
            raise InputError("--gpus-per-actor must be more than 0 and at most 1.")
        if self.pixels < _FEWEST:
            raise InputError(f"--pixels {self.pixels} is too few: give at least {_FEWEST}.")

    @staticmethod
    def presets() -> dict[str, "PrepareConfig"]:
        """``small`` for a laptop's CPU (the default), ``paper`` for GPUs."""
        return {"small": PrepareConfig(), "paper": PrepareConfig(pixels=384 * 768)}

    @property
    def depth_spec(self) -> str:
        """``depth``, or the default for the frames."""
        return self.depth or default_depth(self.frames)

    def identity(self) -> dict[str, Any]:
        """The part of the configuration that decides what is in the dataset."""
        if self.regroup is not None:
            return {"regroup": str(self.regroup.absolute()), "regions": to_plain(self.regions)}
        names = ["frames", "depth", "size", "options", "regions"]
        names += ["region_maps"] if self.region_maps is not None else []
        names += ["compression"] if self.compression != "zstd" else []
        values = {name: to_plain(getattr(self, name)) for name in names}
        return values | {"depth": self.depth_spec}


@dataclass(frozen=True)
class ExportPngConfig:
    """A prepared dataset as a tree of PNG files.

    Attributes:
        data: dataset folder made by cpcdr prepare.
        out: folder for ``rgb/``, ``disp/`` and ``region/``; files that are there stay.
    """

    data: Path = Path("runs/dataset")
    out: Path = Path("runs/png")
