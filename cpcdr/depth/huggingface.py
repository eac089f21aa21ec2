"""Disparity from any depth-estimation model of transformers (extra ``hf``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cpcdr.depth.source import Disparity, check_disparity
from cpcdr.frames.frame import Frame
from cpcdr.geometry import MIN_DISPARITY
from cpcdr.runtime.errors import InputError

_METRIC = ("ZoeDepth", "GLPN")
"""Model families that predict metric depth, besides configurations marked ``metric``."""


class HuggingFace:
    """A model from the hub, or from a folder without network access.

    Loaded on the first call. Relative inverse depth (DPT, Depth Anything) is divided by the frame's
    largest value; depth in metres is inverted.

    Args:
        name: the text the user gave.
        model: folder or name of the model.

    Raises:
        InputError: transformers is not installed, or the folder holds no model.
    """

    def __init__(self, name: str, model: str) -> None:
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"--depth {name} needs transformers: pip install 'cpcdr[hf]'."
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
        """One map a frame; frames of one size go through the model together."""
        processor, model = self._load()
        inputs = processor(images=[f.image for f in frames], return_tensors="pt")
        device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
        with torch.inference_mode():
            output = model(inputs["pixel_values"].to(device, dtype)).predicted_depth.float()
        return [
            self._disparity(values, frame) for values, frame in zip(output, frames, strict=True)
        ]

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
                reason = str(error).strip().splitlines()[0]
                raise InputError(
                    f"{self.name}: cannot be loaded ({reason}); give a depth-estimation model with "
                    "safetensors weights, from a folder or the hub."
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
