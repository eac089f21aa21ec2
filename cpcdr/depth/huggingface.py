"""Disparity from any depth-estimation model of transformers (extra ``hf``)."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cpcdr.depth.source import Disparity, check_disparity
from cpcdr.frames.frame import Frame
from cpcdr.geometry import MIN_DISPARITY
from cpcdr.runtime.errors import InputError, first_line
from cpcdr.runtime.extras import install_command

_METRIC = ("ZoeDepth", "GLPN")
"""Model families that predict metric depth, besides configurations marked ``metric``."""


class HuggingFace:
    """A model from the hub, or from a folder without network access.

    Loaded on the first call. Relative inverse depth (DPT, Depth Anything) is divided by the frame's
    largest value; depth in metres is inverted.

    Raises:
        InputError: transformers is not installed, or the folder holds no model.
    """

    def __init__(self, name: str, model: str) -> None:
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"--depth {name} needs transformers: {install_command('hf')}."
            ) from error
        path = Path(model).expanduser()
        if path.is_dir():
            if not (path / "config.json").is_file():
                raise InputError(
                    f"{path} has no config.json: give a folder written by save_pretrained."
                )
            model = str(path.absolute())
        self.name = name
        self.model = model
        self._loaded: tuple[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loaded": None}

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        """One map per frame, all in one batch."""
        processor, model = self._load()
        images = [frame.image for frame in frames]
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
        with torch.inference_mode():
            output = model(pixels.to(device, dtype))
            maps = _without_padding(processor, images, output, pixels.shape[-2:])
        return [self._disparity(values, frame) for values, frame in zip(maps, frames, strict=True)]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoImageProcessor, AutoModelForDepthEstimation

            cuda = torch.cuda.is_available()
            try:
                # safetensors only: pickled weights are never read
                model = AutoModelForDepthEstimation.from_pretrained(
                    self.model, use_safetensors=True, dtype=torch.float16 if cuda else torch.float32
                )
                processor = AutoImageProcessor.from_pretrained(self.model)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{self.name}: cannot be loaded ({first_line(error)}); give a depth-estimation "
                    "model with safetensors weights, from a folder or, with a network, the hub."
                ) from error
            self._loaded = processor, model.eval().to("cuda" if cuda else "cpu")
        return self._loaded

    def _disparity(self, values: torch.Tensor, frame: Frame) -> Disparity:
        _, model = self._load()
        size = frame.image.shape[:2]
        resized = functional.interpolate(values[None, None], size, mode="bilinear")[0, 0]
        predicted: NDArray[np.float32] = resized.cpu().numpy()
        metric = type(model).__name__.startswith(_METRIC)
        metric = metric or getattr(model.config, "depth_estimation_type", "") == "metric"
        if metric:
            disparity = 1 / np.clip(predicted, 1, 1 / MIN_DISPARITY)
        else:
            disparity = np.clip(predicted / max(float(predicted.max()), 1e-12), MIN_DISPARITY, 1)
        return check_disparity(disparity, f"{frame.ref.frame_id} in {self.name}")


def _without_padding(
    processor: Any, images: list[NDArray[np.uint8]], output: Any, padded: tuple[int, ...]
) -> list[torch.Tensor]:
    """The predicted maps [h, w], cropped to the unpadded images.

    Some processors pad images: ZoeDepth's at its own resolution, which its post-processing undoes;
    DPT's to a multiple of ``size_divisor``, centred.

    Args:
        padded: (H, W) of the network's input.
    """
    maps: torch.Tensor = output.predicted_depth.float()
    if not getattr(processor, "do_pad", False):
        return list(maps)
    undo = getattr(processor, "post_process_depth_estimation", None)
    if undo is not None and "source_sizes" in inspect.signature(undo).parameters:
        sizes = [image.shape[:2] for image in images]
        return [result["predicted_depth"].float() for result in undo(output, source_sizes=sizes)]
    unpadded = processor(images=images, do_pad=False, return_tensors="pt")["pixel_values"].shape[
        -2:
    ]
    maps = functional.interpolate(maps[:, None], padded, mode="bilinear")[:, 0]
    top, left = ((outer - inner) // 2 for outer, inner in zip(padded, unpadded, strict=True))
    return list(maps[:, top : top + unpadded[0], left : left + unpadded[1]])
