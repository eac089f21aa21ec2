"""A function that is called again and again while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(function: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call ``function`` every so many seconds, in a thread that ends with the block."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            function()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
