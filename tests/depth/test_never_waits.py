"""A training step never synchronises with the GPU and creates no tensor on the host.

On the ``meta`` device tensors have no values: operations that need one (``item``, boolean indexing,
a branch) raise, and on a GPU would wait for it. Here copies from the host raise too.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cpcdr.depth.config import SMALL, TINY
from cpcdr.depth.model import DepthModel
from cpcdr.depth.street_net import StreetNet

META = torch.device("meta")


class NoHostTensors(TorchFunctionMode):
    """Refuses constructors that fill a tensor on the host and copy it; dispatch hides them."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        assert name not in ("new_tensor", "as_tensor", "tensor"), f"{name} copies from the host"
        return function(*args, **(kwargs or {}))


class OneDevice(TorchDispatchMode):
    """Refuses operations between devices, except with scalars, which are kernel arguments."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors if t.ndim}
        assert len(devices) <= 1, f"{function} is between {devices}"
        return result


def step(intrinsics, start):
    base = TINY if start == "scratch" else SMALL
    config = replace(base, channels=8, height=64, width=96, batch_size=2, intrinsics=intrinsics)
    with META:
        model = DepthModel(config)
        if start == "street":
            model.start_from(StreetNet())
    images = torch.rand(2, 3, 3, 64, 96, device=META)
    batch = {
        "images": images,
        "jittered": images,
        "intrinsics": torch.rand(2, 4, device=META),
        "flipped": torch.zeros(2, dtype=torch.bool, device=META),
        "still": torch.zeros(2, 64, 96, dtype=torch.bool, device=META),
    }
    with NoHostTensors(), OneDevice():
        model(batch)["loss"].backward()
    return model


@pytest.mark.parametrize("intrinsics", ["known", "learn"])
@pytest.mark.parametrize("start", ["scratch", "street"])
def test_a_training_step_never_waits_for_the_device(intrinsics, start, monkeypatch):
    # autocast does not support the "meta" device.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    model = step(intrinsics, start)
    assert all(p.grad is not None for p in model.depth.parameters())
