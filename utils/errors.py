"""What a user can mend is told in one line, with exit code 2; everything else is a bug."""

import errno
import os
import signal
import sys
from contextlib import contextmanager

import torch

from utils import processes

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_TERMINATED = 143  # 128 + SIGTERM
LOST = "error: another process was killed: if memory was short, start fewer with --nproc_per_node"
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
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
    with processes.joined():
        _run_one(main)


def _run_one(main):
    try:
        with processes.only_first_prints(), _told_to_end():
            main()
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
        kept = interrupt.args[0] if any(interrupt.args) else "nothing unfinished was saved"
        code = EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
        _stop(f"interrupted: {kept}", code)
    except BrokenPipeError:  # `... | head` closed our output: not worth a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _told_to_end():
    """Signals that end a process raise Terminated inside, unless somebody else looks after them."""

    def terminate(*_):
        raise Terminated

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _stop(line, code):
    one_line = " ".join(line.split())
    if processes.may_tell():
        print(f"{os.path.basename(sys.argv[0])}: {one_line}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def os_errors_told(doing):
    """Turn an OSError (full disk, no permission, folder gone) into a UserError: `doing: why`."""
    try:
        yield
    except OSError as error:
        advice = ": make room and try again" if error.errno in NO_ROOM else ""
        raise UserError(f"{doing}: {error.strerror or error}{advice}") from error
