"""What is compiled when, and what happens where it cannot be."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.exc import BackendCompilerFailed

from cpcdr.runtime.errors import InputError
from cpcdr.train import compiling
from cpcdr.train.compiling import Choice, Passes, compile_module, of_the_compiler

CPU = torch.device("cpu")


class Doubles(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": 2 * batch["x"]}


class Refuses(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        raise RuntimeError("shapes differ")


BATCH = {"x": torch.ones(3)}


def failing_late(_: torch.fx.GraphModule, __: list[Tensor]) -> Any:
    """As Inductor does, which names itself in what it raises."""
    raise BackendCompilerFailed(failing, ValueError("no C compiler\nhere"), None)


def failing(_: torch.fx.GraphModule, __: list[Tensor]) -> Any:
    raise ValueError("no C compiler\nhere")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that fails when it is used."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=failing))


GPU = torch.device("cuda")


class NotesMode(Doubles):
    def compile(self, *, mode: str | None) -> None:
        self.mode = mode or "default"


@pytest.mark.parametrize(
    ("choice", "ranks", "graphs", "mode"),
    [
        ("no", 1, True, ""),
        ("auto", 1, True, "reduce-overhead"),
        ("auto", 1, False, "default"),
        ("auto", 2, True, ""),
        ("yes", 2, True, "default"),
    ],
)
def test_what_a_gpu_compiles(
    choice: Choice, ranks: int, graphs: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice alone; the compiler itself would need the GPU."""
    monkeypatch.setattr(compiling, "_try_the_compiler", lambda device: None)
    module = NotesMode()
    assert compile_module(module, choice, GPU, ranks, graphs) == bool(mode)
    assert getattr(module, "mode", "") == mode


def test_only_gpus_compile_by_themselves() -> None:
    for choice in ("auto", "no"):
        module = Doubles()
        assert not compile_module(module, choice, CPU)
        assert Passes(module, choice)(lambda m=module: m(BATCH))["loss"].tolist() == [2, 2, 2]


@pytest.mark.usefixtures("broken")
def test_a_compiler_that_was_asked_for_must_work() -> None:
    sentence = "--train.compile does not work here: ValueError, no C compiler; run the same"
    with pytest.raises(InputError, match=sentence):
        compile_module(Doubles(), "yes", CPU)


@pytest.mark.usefixtures("broken")
def test_a_module_that_cannot_be_compiled_is_called_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = Doubles()
    module.compile()
    with pytest.raises(RuntimeError, match="no C compiler"):
        Passes(module, "yes")(lambda: module(BATCH))
    passes = Passes(module, "auto")
    for _ in range(2):
        assert passes(lambda: module(BATCH))["loss"].tolist() == [2, 2, 2]
    warned = "warning: ValueError, no C compiler: this cannot be compiled; training continues"
    assert capsys.readouterr().out.count(warned) == 1


class Scales(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (self.factor * batch["x"]).sum()}


def only_forward(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
    """A compiler that fails in the backward pass alone, which is compiled when it is needed."""

    def as_it_is(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        return make_boxed_func(graph.forward)

    return aot_autograd(fw_compiler=as_it_is, bw_compiler=failing_late)(graph, inputs)


@pytest.mark.parametrize("begun", [False, True])
def test_a_backward_pass_that_cannot_be_compiled(
    begun: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.compiler.reset()
    module = Scales()
    step = torch.compile(module, backend=only_forward)

    def both() -> dict[str, Tensor]:
        found = step(BATCH)
        found["loss"].backward()
        return dict(found)

    passes = Passes(module, "auto")
    if begun:
        module.factor.grad = torch.ones(())
        with pytest.raises(InputError, match=r"--train\.compile does not work here: ValueError"):
            passes(both)
        return
    for _ in range(2):
        module.zero_grad(set_to_none=True)
        assert passes(both)["loss"].item() == 3
        assert module.factor.grad is not None and module.factor.grad.item() == 3
    assert capsys.readouterr().out.count("cannot be compiled; training continues") == 1


def test_other_errors_are_raised() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        Passes(Refuses(), "auto")(lambda: Refuses()(BATCH))


def test_only_a_compilers_errors_are_the_compilers() -> None:
    class TorchDynamoException(RuntimeError):
        def __init__(self, cause: Exception) -> None:
            self.inner_exception = cause

    assert of_the_compiler(RuntimeError("shapes differ")) == ""
    said = of_the_compiler(TorchDynamoException(ValueError("no C compiler\nhere")))
    assert said == "ValueError, no C compiler"
    with pytest.raises(OSError, match="No space left"):
        of_the_compiler(TorchDynamoException(OSError(28, "No space left on device")))
