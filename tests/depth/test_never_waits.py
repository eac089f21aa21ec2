"""A training step asks nothing back from a GPU and makes nothing on the host meanwhile.

On the ``meta`` device tensors have no values: whatever wants one (``item``, a mask as an index, a
branch) raises, as it would make the host wait for a GPU. So does, here, what copies from the host.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cpcdr.depth.model import TINY, DepthModel

META = torch.device("meta")


class NothingMadeOfValues(TorchFunctionMode):
    """Refuses what fills a tensor on the host and copies it: operations do not show that."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        assert name not in ("new_tensor", "as_tensor", "tensor"), f"{name} copies from the host"
        return function(*args, **(kwargs or {}))


class OneDevice(TorchDispatchMode):
    """Refuses operations between devices; numbers are arguments of a kernel, wherever they are."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors if t.ndim}
        assert len(devices) <= 1, f"{function} is between {devices}"
        return result


def step(intrinsics):
    config = replace(TINY, channels=8, height=64, width=96, batch_size=2, intrinsics=intrinsics)
    with META:
        model = DepthModel(config)
    images = torch.rand(2, 3, 3, 64, 96, device=META)
    batch = {
        "images": images,
        "jittered": images,
        "intrinsics": torch.rand(2, 4, device=META),
        "flipped": torch.zeros(2, dtype=torch.bool, device=META),
    }
    with NothingMadeOfValues(), OneDevice():
        model(batch)["loss"].backward()
    return model


@pytest.mark.parametrize("intrinsics", ["known", "learn"])
def test_a_training_step_never_waits_for_the_device(intrinsics, monkeypatch):
    # Precision is chosen for a kind of device, and "meta" is none that torch knows one for.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    model = step(intrinsics)
    assert all(p.grad is not None for p in model.depth.parameters())
