"""What a user can mend is told in one line, with exit code 2; everything else is a bug."""

import _thread
import errno
import io
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress

import torch

from utils import processes
from utils.starting import EXIT_INTERRUPTED, NOTHING_SAVED, end_at_once

EXIT_BAD_INPUT = 2
EXIT_TERMINATED = 143  # 128 + SIGTERM
EXIT_UNREAD = 141  # 128 + SIGPIPE, which Python ignores
SAME_WISH = 5.0  # seconds in which a signal that comes again, as a second Ctrl-C, changes nothing
LOST = "error: another process was killed: if memory was short, start fewer with --nproc_per_node"
SOON = 0.01  # seconds
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
LAST_STREAM = 2  # standard error's number
CPU_ALLOCATOR = "DefaultCPUAllocator"  # how torch's RuntimeError names a lack of memory


class UserError(Exception):
    """Bad input or a bad place to write: the message says what is wrong and what to do."""


class NotFiniteError(UserError):
    """A loss, a model's outputs or weights are not finite any more: the rate was too high."""

    def __init__(self, where):
        self.where = where
        super().__init__(
            f"the loss is not finite any more {where}: this model was not saved; "
            "try a lower learning rate"
        )

    def in_epoch(self, number, epochs):
        """The same error, told with the epoch, 1-based, that it came up in."""
        return NotFiniteError(f"in epoch {number} of {epochs}, {self.where}")


class Terminated(KeyboardInterrupt):
    """The system, a scheduler or a closed terminal asks the process to end: as Ctrl-C does."""


def stopped_with(interrupt, kept):
    """The interrupt again, with the words that say what is `kept`; None for the usual ones."""
    return type(interrupt)(kept)


def run_script(main):
    """Run a script's `main()`; turn what a user can mend into one line and an exit code.

    Of several processes one alone tells, whichever comes to it first.
    """
    _use_any_streams()
    with _told_to_end(), processes.joined():
        _run_one(main)


def _run_one(main):
    try:
        with processes.only_first_prints():
            main()
            _flush()
    except UserError as error:
        _stop(f"error: {error}", EXIT_BAD_INPUT)
    except torch.OutOfMemoryError:
        _stop("error: the GPU ran out of memory: lower the batch size", EXIT_BAD_INPUT)
    except (MemoryError, RuntimeError) as error:
        if processes.has_lost_another(error):
            _stop(LOST, EXIT_BAD_INPUT)
        if isinstance(error, RuntimeError) and CPU_ALLOCATOR not in str(error):
            raise
        _stop("error: out of memory: lower the batch size or the input size", EXIT_BAD_INPUT)
    except KeyboardInterrupt as interrupt:
        kept = interrupt.args[0] if any(interrupt.args) else NOTHING_SAVED
        code = EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
        _stop(f"interrupted: {kept}", code)
    except BrokenPipeError:  # `... | head` closed our output: not worth a word
        _drop_output()
        sys.exit(EXIT_UNREAD)
    except OSError as error:  # where nothing else tells it, as of what is printed
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"error: {where}{_reason(error)}", EXIT_BAD_INPUT)


def _use_any_streams():
    """Print whatever is to be printed, on any terminal and on none.

    A name that has letters beyond the terminal's is written with escapes. Where a stream is
    closed, its number is taken, or the next file to be opened would be that of warnings.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # what it holds is written at once, and may find no room
                stream.reconfigure(errors="backslashreplace")
    with suppress(OSError):
        while (taken := os.open(os.devnull, os.O_RDWR)) <= LAST_STREAM:
            pass
        os.close(taken)
    warnings.filterwarnings("ignore", "Glyph .* missing from")  # the picture shows a box


def _flush():
    if sys.stdout:
        sys.stdout.flush()


def _drop_output():
    """What was not written cannot be: Python would try again at its end."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _told_to_end():
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

    def tell_again(lost):
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
    hook, sys.unraisablehook = sys.unraisablehook, tell_again
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


def _stop(line, code):
    words = " ".join(line.split())
    one_line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in words)
    try:
        _flush()
    except OSError:
        _drop_output()
    if processes.may_tell():
        with suppress(OSError):
            print(f"{os.path.basename(sys.argv[0])}: {one_line}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def os_errors_told(doing, advice=""):
    """Turn an OSError (full disk, no permission, folder gone) into a UserError: `doing: why`.

    advice: begins with a colon; where there is no room another is given.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{doing}: {_reason(error, advice)}") from error


def _reason(error, advice=""):
    """What the system says, and what to do."""
    advice = ": make room and try again" if error.errno in NO_ROOM else advice
    return f"{error.strerror or error}{advice}"
