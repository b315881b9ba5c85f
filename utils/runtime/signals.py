"""Signals that ask a process to end raise inside it, so that it can say what is saved."""

import _thread
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager

from utils.runtime.startup import EXIT_INTERRUPTED, end_at_once

EXIT_TERMINATED = 143  # 128 + SIGTERM
SAME_WISH = 5.0  # seconds in which a signal that comes again, as a second Ctrl-C, changes nothing
SOON = 0.01  # seconds


class Terminated(KeyboardInterrupt):
    """The system, a scheduler or a closed terminal asks the process to end: as Ctrl-C does."""


@contextmanager
def handle_termination():
    """Signals that end a process raise inside, unless somebody else looks after them.

    Impatient users and schedulers send them twice: what the first one stopped may tidy up.
    """
    stopped = None  # when it was

    def is_again():
        return stopped is not None and time.monotonic() - stopped < SAME_WISH

    def stop(number, _):
        nonlocal stopped
        if not is_again():
            stopped = time.monotonic()
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def leave(number, _):  # Python is about to end, and should have by now
        if not is_again():
            os._exit(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)

    def rearm_lost_interrupt(lost):
        """In a __del__ and in the callback of a weak reference nothing can be raised: soon."""
        nonlocal stopped
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)
            return
        stopped = None
        number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
        threading.Timer(SOON, _thread.interrupt_main, [number]).start()

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
        if before.get(signal.SIGINT) == end_at_once:  # a program, which has told all by now
            before = dict.fromkeys(before, leave if stopped else signal.SIG_DFL)
        for number, handler in before.items():
            signal.signal(number, handler)
