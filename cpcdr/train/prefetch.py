"""Reading ahead of the training step."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


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
