"""Reading ahead of the training step."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(read: Callable[[int], T], steps: range, depth: int = 2) -> Iterator[T]:
    """``read(step)`` for each step, ``depth`` results ahead, in one background thread."""
    results: queue.Queue[T | BaseException] = queue.Queue(depth)
    stopped = threading.Event()

    def put(value: T | BaseException) -> None:
        while not stopped.is_set():
            try:
                results.put(value, timeout=0.2)
                return
            except queue.Full:
                continue

    def work() -> None:
        for step in steps:
            if stopped.is_set():
                return
            try:
                put(read(step))
            except BaseException as error:
                put(error)
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in steps:
            value = results.get()
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        stopped.set()
        thread.join()
