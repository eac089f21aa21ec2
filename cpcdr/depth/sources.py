"""Opening the disparity source that a user names.

Each kind is imported on demand: processes that need no PyTorch start seconds earlier.
"""

from pathlib import Path

from cpcdr.depth.source import DepthError, DepthSource, Disparity, check_disparity
from cpcdr.frames.digest import files_digest
from cpcdr.frames.frame import Frame
from cpcdr.runtime.checkpoint import weights_digest
from cpcdr.runtime.durable import file_digest
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase
from cpcdr.runtime.training_folder import usable_checkpoint

KINDS = {
    "ground-truth": "exact disparity of the synthetic street",
    "precomputed:ROOT": "16-bit PNG: the released code's tree, Cityscapes disparity, KITTI depth",
    "street": "the network in this package, trained on rendered streets: any camera, no training",
    "street:FILE": "the same with weights by train_street",
    "network:CHECKPOINT": "a network trained by train_depth",
    "stereo:": "semi-global matching on the right images of Cityscapes or KITTI",
    "velodyne:": "laser scans of KITTI raw recordings, sparse",
    "hf:FOLDER-or-name": "any depth-estimation model of transformers (extra hf)",
}
"""Values of ``--depth`` and what they mean."""


@phase("opening the source of depth")
def open_depth(spec: str, option: str = "--depth") -> DepthSource:
    """The depth source that a user named.

    Raises:
        InputError: unknown kind, missing folder, or not a checkpoint of depth training.
    """
    kind, _, argument = spec.partition(":")
    if kind == "ground-truth" and not argument:
        return GroundTruth()
    if kind == "precomputed":
        from cpcdr.depth.precomputed import Precomputed

        return Precomputed(spec, _existing_folder(kind, argument))
    if kind == "network":
        from cpcdr.depth.network import Network

        spec = with_checkpoint(spec)
        return Network(spec, _existing_folder(kind, spec.partition(":")[2]))
    if kind == "street":
        from cpcdr.depth.street import Street, street_file

        return Street(spec, street_file(spec))
    if kind == "stereo" and not argument:
        from cpcdr.depth.stereo import Stereo

        return Stereo()
    if kind == "velodyne" and not argument:
        from cpcdr.depth.velodyne import Velodyne

        return Velodyne()
    if kind == "hf" and argument:
        from cpcdr.depth.huggingface import HuggingFace

        return HuggingFace(spec, argument)
    raise InputError(f"{option} {spec} is unknown: give one of {', '.join(KINDS)}.")


def with_checkpoint(spec: str) -> str:
    """``spec`` with a training's folder in ``network:FOLDER`` replaced by the checkpoint to use.

    Raises:
        InputError: as `cpcdr.runtime.training_folder.usable_checkpoint`.
    """
    kind, _, argument = spec.partition(":")
    if kind != "network" or not argument:
        return spec
    folder = Path(argument).expanduser()
    used = usable_checkpoint(folder)
    return spec if used == folder else f"{kind}:{used}"


@phase("fingerprinting the source of depth")
def depth_digest(depth: DepthSource) -> str:
    """What a source's files hold: weights of a network, precomputed maps; ``""`` without files."""
    folder = getattr(depth, "folder", None)
    if isinstance(folder, Path):
        return weights_digest(folder)
    file = getattr(depth, "file", None)
    if isinstance(file, Path):
        return file_digest(file)
    root = getattr(depth, "root", None)
    if isinstance(root, Path):
        return files_digest(root.rglob("*.png"))
    model = Path(getattr(depth, "model", ""))
    return files_digest(p for p in model.iterdir() if p.is_file()) if model.is_absolute() else ""


def _existing_folder(kind: str, argument: str) -> Path:
    folder = Path(argument).expanduser().absolute()
    if not argument or not folder.is_dir():
        raise InputError(f"{kind}:{argument} is not a folder: give the path of one.")
    return folder


class GroundTruth:
    """Exact disparity from frame sources that have it, such as the synthetic street."""

    name = "ground-truth"

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        return [self._disparity(frame) for frame in frames]

    def _disparity(self, frame: Frame) -> Disparity:
        if frame.disparity is None:
            raise DepthError(
                f"{frame.ref.frame_id}: {frame.source} has no exact depth, only the synthetic "
                "street does: give another source of depth, such as network:CHECKPOINT."
            )
        return check_disparity(frame.disparity, frame.ref.frame_id)
