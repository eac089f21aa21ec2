"""The frames that a dataset was prepared from, with all that their source knows of them."""

from typing import Any

from cpcdr.frames import FrameOptions, FrameSource, open_frames
from cpcdr.runtime.config import overlay


def source_of(manifest: dict[str, Any]) -> FrameSource:
    """The source of the frames of a dataset, as they were read for it.

    Raises:
        InputError: they are no longer there.
    """
    config = manifest["config"]
    options = overlay(FrameOptions(), config.get("options", {}), "manifest.json: options")
    return open_frames(config["frames"], options)
