"""Reading ahead of the training step."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
_STEPS_AHEAD = 2
"""Steps that a GPU may still have to do when the host prepares the next."""


def prefetch(read: Callable[[int], T], steps: Iterable[int], readers: int = 1) -> Iterator[T]:
    """``read(step)``, a pure function, for each step in order; threads call it some steps ahead."""
    pool = ThreadPoolExecutor(readers, thread_name_prefix="prefetch")
    ahead: deque[Future[T]] = deque()
    try:
        for step in steps:
            ahead.append(pool.submit(read, step))
            if len(ahead) > readers + 2:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def one_ahead(
    make: Callable[[T], dict[str, Tensor]], items: Iterable[T], device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """``make(item)`` of each item; on a GPU on a stream of its own, while the step before runs."""
    if device.type != "cuda":
        yield from map(make, items)
        return
    own, waiting = torch.cuda.Stream(device), None
    used: deque[torch.cuda.Event] = deque()
    for item in items:
        with torch.cuda.stream(own):
            made = make(item)
        done = own.record_event()
        if waiting is not None:
            yield _handed_over(*waiting)
            used.append(torch.cuda.current_stream().record_event())
        if len(used) > _STEPS_AHEAD:  # else batches would pile up before a host that is faster
            used.popleft().synchronize()
        waiting = made, done
    if waiting is not None:
        yield _handed_over(*waiting)


def _handed_over(made: dict[str, Tensor], done: torch.cuda.Event) -> dict[str, Tensor]:
    """What another stream makes, for the current one, which waits for it."""
    current = torch.cuda.current_stream()
    current.wait_event(done)
    for tensor in made.values():
        tensor.record_stream(current)
    return made
