"""SIGINT, SIGTERM and SIGHUP raise an exception, so that a script can report what is saved."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from utils.runtime.startup import (
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    end_at_once,
    is_importing,
)

REPEAT_SECONDS = 5.0  # a signal that is repeated within this time is ignored
RETRY_SECONDS = 0.01


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM or SIGHUP, as from a scheduler or a closed terminal."""


@contextmanager
def handle_termination() -> Iterator[None]:
    """Raise KeyboardInterrupt or Terminated in the main thread when a signal ends the process.

    Signals that have another handler, or are ignored, are left alone. Impatient users and
    schedulers send a signal twice: the second one does not disturb the clean-up after the first.
    """
    stopped = None  # time of the last signal

    def is_repeated():
        return stopped is not None and time.monotonic() - stopped < REPEAT_SECONDS

    def stop(number, _):
        nonlocal stopped
        if is_importing():
            end_at_once(number)
        if not is_repeated():
            stopped = time.monotonic()
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def leave(number, _):  # Python is shutting down, which takes no time usually
        if not is_repeated():
            os._exit(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)

    def rearm_lost_interrupt(lost):
        """Send the signal again if its exception was lost in a __del__ or weakref callback."""
        nonlocal stopped
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)
            return
        stopped = None
        number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
        threading.Timer(RETRY_SECONDS, _thread.interrupt_main, [number]).start()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in (getattr(signal, n) for n in names)}
    ours = (signal.SIG_DFL, signal.default_int_handler, end_at_once)
    before = {number: handler for number, handler in before.items() if handler in ours}
    hook, sys.unraisablehook = sys.unraisablehook, rearm_lost_interrupt
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if before.get(signal.SIGINT) == end_at_once:  # a program, which has reported its end
            before = dict.fromkeys(before, leave if stopped else signal.SIG_DFL)
        for number, handler in before.items():
            signal.signal(number, handler)
