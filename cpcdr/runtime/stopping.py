"""How a command ends early: SIGTERM and Ctrl-C unwind it, and a reader that leaves is no error."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

_AGAIN_S = 0.1
_SWALLOWS = ("numba.", "llvmlite.")
"""Packages that call Python from C while they compile, where an exception is only printed."""

_unraisable = sys.unraisablehook
"""What prints the exceptions of destructors and callbacks."""


class Stopped(KeyboardInterrupt):
    """A command's end by a signal.

    Where a plain `KeyboardInterrupt` leaves an `exec`, such as that of a dataclass being imported,
    ``python -m`` remembers it and ends by SIGINT instead of the exit code, although it was caught.
    """


def stop_on_signals() -> None:
    """SIGTERM (a cluster's pre-emption) and Ctrl-C raise `Stopped` in the main thread.

    So runs are closed and files kept. A shell's background jobs ignore Ctrl-C, and still do. Where
    an exception would be printed and forgotten, as while a kernel is compiled or in a destructor,
    the stop comes again a little later.
    """
    sys.unraisablehook = _stop_again
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGALRM, _stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop)


def _stop(signum: int, frame: FrameType | None) -> None:
    if _inside_a_compiler(frame):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        return
    raise Stopped


def _stop_again(unraisable: Any) -> None:
    if unraisable.exc_type is Stopped:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    else:
        _unraisable(unraisable)


def compiling() -> bool:
    """Whether the main thread compiles a kernel."""
    return _inside_a_compiler(sys._current_frames().get(threading.main_thread().ident or 0))


def _inside_a_compiler(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_SWALLOWS):
            return True
        frame = frame.f_back
    return False


def leave_a_closed_pipe() -> NoReturn:
    """The reader closed the pipe, as `head` does; avoid a second error when Python flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)
