"""A pre-training step is one graph for torch.compile: forward, loss and backward, no breaks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.mosaic import Frames, compose
from cpcdr.loss import assignment, correspondences, scatter
from cpcdr.loss.config import LossConfig
from cpcdr.model.config import ModelConfig
from cpcdr.train.compiling import compile_module
from cpcdr.train.pretrain_task import PretrainModule, draw_points

MODEL = ModelConfig(
    "resnet10", width=8, fpn_channels=32, head_channels=32, feature_dim=16, prototypes=12
)
LOSS = LossConfig(pixel_points=30, region_points=50)


@pytest.fixture(autouse=True)
def _convolutions_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In TF32 a GPU's gradients differ by percents between two ways of convolving."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def batch(seed: int, regions: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (1, 2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    columns = (torch.arange(96) * regions // 96).int().expand(1, 2, 64, 96)
    frames = Frames(images, torch.rand(1, 2, 64, 96, generator=generator), columns.contiguous())
    mosaic = compose(frames, CopyPasteConfig(), [(0, 0, seed)])
    keys = [(0, 0, seed)]
    image, xy = draw_points((len(mosaic.images), 64, 96), 1, keys, LOSS)
    names = ("images", "regions", "transforms", "image_of")
    return {
        **{name: getattr(mosaic, name) for name in names},
        "appearances": mosaic.appearances.long(),
        "point_image": image,
        "point_xy": xy,
        "pasted_fraction": (mosaic.appearances >= mosaic.rounds).float().mean(),
    }


def gradients(module: nn.Module, step: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    module.zero_grad()
    loss = step(inputs)["loss"]
    loss.backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return {"loss": loss.detach()} | found


@pytest.mark.slow
@pytest.mark.parametrize("kernels", [False, True])
def test_a_step_is_one_graph(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to the step as it is, and two graphs do for any number of regions."""
    device = "cuda" if kernels and torch.cuda.is_available() else "cpu"
    if kernels:
        pytest.importorskip("triton", reason="no Triton for this machine")
    if kernels and device == "cpu":
        for module in (assignment, correspondences, scatter):
            monkeypatch.setattr(module, "runs_triton", lambda device: True)
    torch.manual_seed(0)
    module = PretrainModule(MODEL, LOSS).to(device)
    torch.compiler.reset()
    step = torch.compile(module, fullgraph=True, backend="aot_eager")
    graphs = []
    for seed, regions in enumerate((8, 8, 6, 12, 5)):
        inputs = {name: tensor.to(device) for name, tensor in batch(seed, regions).items()}
        counters.clear()
        plain, compiled = gradients(module, module, inputs), gradients(module, step, inputs)
        graphs.append(counters["stats"]["unique_graphs"])
        # Rounding in the network moves some similarities of 16 bits by a step of 3e-5.
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=2e-5)
    assert graphs == [1, 0, 1, 0, 0]


def test_no_function_returns_what_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch 2.11 compiles it to a result with a gradient of 0 (pytorch/pytorch#180642)."""
    versions: list[int] = []

    def noted(forward: Callable[..., Any], *args: Any) -> Any:
        result = forward(*args)
        tensors = result if isinstance(result, tuple) else (result,)
        versions.extend(tensor._version for tensor in tensors)
        return result

    for function in torch.autograd.Function.__subclasses__():
        if function.__module__.startswith("cpcdr.loss"):
            monkeypatch.setattr(function, "forward", staticmethod(partial(noted, function.forward)))
    PretrainModule(MODEL, LOSS)(batch(0, 8))
    assert versions == [0] * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_agree_with_the_step() -> None:
    """Replayed with other values and another number of regions, gradients are those of the step."""
    device = torch.device("cuda")
    torch.manual_seed(0)
    plain = PretrainModule(MODEL, LOSS).to(device)
    replayed = copy.deepcopy(plain)
    torch.compiler.reset()
    assert compile_module(replayed, "auto", device)
    for seed, regions in enumerate((8, 8, 8, 6, 6, 6)):
        inputs = {name: tensor.to(device) for name, tensor in batch(seed, regions).items()}
        found = [gradients(module, module, inputs) for module in (plain, replayed)]
        torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)
