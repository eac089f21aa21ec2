"""A trained network as an ONNX file, checked against PyTorch."""

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.evaluate.segmenters import PrototypeSegmenter
from cpcdr.evaluate.supervised import ClassSegmenter
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.extras import install_command
from cpcdr.runtime.progress import phase
from cpcdr.segment.load import LoadedNetwork

_TOLERANCE = {False: 1e-3, True: 2e-2}
"""Of scores relative to their range: in float32, and in float16."""
_AXES = {0: "images", 2: "height", 3: "width"}


class ScoringNetwork(nn.Module):
    """Images [N, 3, H, W] in [0, 1] to scores [N, K, H, W] of classes or clusters."""

    def __init__(self, network: LoadedNetwork) -> None:
        super().__init__()
        segmenter = network.segmenter
        self.cluster_of: list[list[int]] = []
        if isinstance(segmenter, ClassSegmenter):
            self.module: nn.Module = segmenter.module
            return
        assert isinstance(segmenter, PrototypeSegmenter)
        self.module = segmenter.network
        for cluster in range(len(network.names)):
            self.cluster_of.append(np.flatnonzero(segmenter.clusters == cluster).tolist())

    def forward(self, images: Tensor) -> Tensor:
        """A cluster's score is that of its nearest prototype."""
        size = images.shape[-2:]
        if not self.cluster_of:
            scores = self.module.logits(images)  # type: ignore[operator]
            return functional.interpolate(scores, size, mode="bilinear")
        features = functional.interpolate(self.module(images), size, mode="bilinear")
        near = torch.einsum("nchw,kc->nkhw", features, self.module.prototypes)
        scores = [
            near[:, members].amax(1) if members else near.amin(1) for members in self.cluster_of
        ]
        return torch.stack(scores, dim=1)


class _Half(nn.Module):
    """The same in float16, between images and scores in float32."""

    def __init__(self, scores: nn.Module) -> None:
        super().__init__()
        self.scores = copy.deepcopy(scores).half()

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(images.half()).float()


@phase("exporting to ONNX")
def write_onnx(scores: nn.Module, out: Path, about: dict[str, str], half: bool = False) -> float:
    """Write ONNX with free batch, height and width; the largest difference to PyTorch.

    Args:
        about: metadata of the file.
        half: weights and computation in float16.

    Raises:
        InputError: a package is missing, or ONNX Runtime and PyTorch disagree.
    """
    onnx, onnxruntime = _packages()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    _export(_Half(scores) if half else scores, partial)
    model = onnx.load(str(partial))
    onnx.helper.set_model_props(model, about)
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in _AXES.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]  # it has the exporter's names of these axes
    onnx.save(model, str(partial))
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    worst = max(_difference(scores, session, size) for size in ((1, 3, 96, 192), (2, 3, 70, 161)))
    if not worst <= _TOLERANCE[half]:
        partial.unlink()
        raise InputError(f"{out}: ONNX differs from PyTorch by {worst:.2g}; nothing was written.")
    partial.replace(out)
    return worst


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401, which PyTorch's exporter needs
    except ImportError as error:
        raise InputError(
            f"ONNX export needs onnx, onnxruntime and onnxscript: {install_command('onnx')}"
        ) from error
    return onnx, onnxruntime


def _export(scores: nn.Module, path: Path) -> None:
    free = torch.export.Dim.DYNAMIC
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):  # what matters is compared afterwards
        torch.onnx.export(
            scores.eval(),
            (torch.rand(2, 3, 96, 192),),
            str(path),
            input_names=["images"],
            output_names=["scores"],
            dynamic_shapes=(dict.fromkeys(_AXES, free),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    log.setLevel(level)


def _difference(scores: nn.Module, session: Any, size: tuple[int, ...]) -> float:
    """Largest difference of the scores of random images, relative to their range."""
    images = torch.rand(size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = scores(images).numpy()
    (scored,) = session.run(None, {"images": images.numpy()})
    return float(np.abs(scored - expected).max() / np.ptp(expected))
