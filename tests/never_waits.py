"""The device that has no values: whoever asks it for one, and would wait for a GPU, is told.

On the ``meta`` device operations that need a value (``item``, boolean indexing, a branch) raise.
Inside `never_waiting` copies from the host raise too.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")


class _NoHostTensors(TorchFunctionMode):
    """Refuses constructors that fill a tensor on the host and copy it; dispatch hides them."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        assert name not in ("new_tensor", "as_tensor", "tensor"), f"{name} copies from the host"
        return function(*args, **(kwargs or {}))


class _OneDevice(TorchDispatchMode):
    """Refuses operations between devices, except with scalars, which are kernel arguments."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors if t.ndim}
        assert len(devices) <= 1, f"{function} is between {devices}"
        return result


@contextmanager
def never_waiting() -> Iterator[None]:
    """Refuses copies from the host; autocast, which does not support ``meta``, is off."""
    with (
        _NoHostTensors(),
        _OneDevice(),
        mock.patch("torch.autocast", lambda *_, **__: nullcontext()),
    ):
        yield
