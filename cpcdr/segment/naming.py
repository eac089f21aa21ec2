"""A pre-trained network whose prototypes have classes, as a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.protocols import get_protocol
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.runtime.checkpoint import CONFIG, read_config, save_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError

NAMED = "name"
"""Kind of its checkpoint."""


def save_named(
    folder: Path,
    network: SegmentationNetwork,
    classes: NDArray[np.int64],
    about: dict[str, Any],
    step: int,
) -> None:
    """Write the checkpoint.

    Args:
        folder: destination, replaced if it exists: see `refuse_other_folder`.
        classes: int64 [P], the class of each prototype.
        about: ``protocol``, ``size``, ``seed``, ``dataset`` and further configuration to store.
    """
    config = {"model": to_plain(network.config), "classes": classes.tolist(), **about}
    save_checkpoint(folder, step, {"kind": NAMED, "config": config}, network.state_dict())


def refuse_other_folder(folder: Path) -> None:
    """Refuse to replace anything but a named network.

    Raises:
        InputError: the folder holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        read_config(folder, NAMED)
    except InputError as error:
        raise InputError(
            f"--out {folder}: is no named network, and would be replaced; choose another folder."
        ) from error


def classes_of(folder: Path, config: dict[str, Any], prototypes: int) -> NDArray[np.int64]:
    """The class of each prototype, int64 [P], from a checkpoint's configuration.

    Raises:
        InputError: it holds none, or others than its protocol has.
    """
    classes = config.get("classes")
    known = len(get_protocol(str(config.get("protocol"))).classes)
    good = isinstance(classes, list) and len(classes) == prototypes
    if not good or not all(isinstance(c, int) and 0 <= c < known for c in classes or ()):
        raise InputError(
            f"{folder / CONFIG}: has no class for each of {prototypes} prototypes; write it again "
            "with cpcdr name."
        )
    return np.array(classes, np.int64)
