"""A training step as one graph: ``torch.compile``, and CUDA graphs where one GPU trains alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from cpcdr.runtime.errors import InputError
from cpcdr.runtime.ranks import together

Choice = Literal["auto", "yes", "no"]
_DOES_NOT_WORK = (
    "--train.compile does not work here: {}; run the same command with --train.compile no."
)


def compile_module(
    module: nn.Module, choice: Choice, device: torch.device, ranks: int = 1, graphs: bool = True
) -> bool:
    """Have a module compiled when it is first called.

    Args:
        choice: ``auto`` compiles on a GPU that trains alone, and goes without where there is no
            compiler. Several would wait: the gradients of a compiled backward pass come together,
            at its end, where those of one that is not are exchanged while it runs.
        graphs: replay a GPU's kernels as CUDA graphs, which saves launching them one by one; never
            with several ranks, which exchange sums in between.

    Returns:
        whether it will be.

    Raises:
        InputError: the choice is ``yes``, and there is no compiler.
    """
    on_gpu, alone = device.type == "cuda", ranks == 1
    if choice == "no" or (choice == "auto" and not (on_gpu and alone)):
        return False
    try:
        together(partial(_try_the_compiler, device))
    except InputError as error:
        if choice == "yes":
            raise
        print(f"warning: {error} Training continues without it.")
        return False
    module.compile(mode="reduce-overhead" if graphs and on_gpu and alone else None)
    return True


class Passes:
    """Forward and backward passes of a module, each of which a compiler may fail in.

    With ``auto`` the module is taken as it is from the pass on in which that turns out.
    """

    def __init__(self, module: nn.Module, choice: Choice) -> None:
        self.module, self.choice, self.failed = module, choice, False

    def __call__(self, both: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The result of ``both``, which calls the module and adds up gradients.

        It is called again where the compiler fails. Batch statistics have seen that batch twice.

        Raises:
            InputError: the compiler fails when there are gradients of other batches already.
        """
        if not self.failed:
            begun = any(p.grad is not None for p in self.module.parameters())
            try:
                return both()
            except RuntimeError as error:
                cause = of_the_compiler(error)
                if self.choice != "auto" or not cause:
                    raise
                if begun:  # and they may be incomplete now
                    raise InputError(_DOES_NOT_WORK.format(cause)) from error
                print(f"warning: {cause}: this cannot be compiled; training continues without.")
                self.failed = True
                self.module.zero_grad(set_to_none=True)
        with torch.compiler.set_stance("force_eager"):
            return both()


def _try_the_compiler(device: torch.device) -> None:
    """Compile something small: a missing compiler is found before any rank waits for another."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(1, device=device))
    except RuntimeError as error:
        if cause := of_the_compiler(error):
            raise InputError(_DOES_NOT_WORK.format(cause)) from error
        raise


def of_the_compiler(error: RuntimeError) -> str:
    """What keeps torch.compile from compiling, in a line; ``""`` for any other error."""
    # By name: torch._dynamo takes seconds to import, which only those who compile have to wait for.
    if "TorchDynamoException" not in {kind.__name__ for kind in type(error).__mro__}:
        return ""
    cause = getattr(error, "inner_exception", error)
    if isinstance(cause, OSError | torch.OutOfMemoryError):
        raise cause  # full disks and memories are reported elsewhere
    text = str(cause).strip() or type(cause).__name__
    return f"{type(cause).__name__}, {text.splitlines()[0]}"
