"""What a user can mend is told in one line, with exit code 2; everything else is a bug."""

import errno
import os
import sys
from contextlib import contextmanager, suppress

import torch

from utils.runtime import processes
from utils.runtime.signals import EXIT_TERMINATED, Terminated, handle_termination
from utils.runtime.startup import EXIT_INTERRUPTED, NOTHING_SAVED
from utils.runtime.streams import drop_output, flush, harden_stdio

EXIT_BAD_INPUT = 2
EXIT_UNREAD = 141  # 128 + SIGPIPE, which Python ignores
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


def interrupt_with_hint(interrupt, kept):
    """The interrupt again, with the words that say what is `kept`; None for the usual ones."""
    return type(interrupt)(kept)


def run_script(main):
    """Run a script's `main()`; turn what a user can mend into one line and an exit code.

    Of several processes one alone tells, whichever comes to it first.
    """
    harden_stdio()
    with handle_termination(), processes.join_process_group():
        _run_one(main)


def _run_one(main):
    try:
        with processes.silence_other_ranks():
            main()
            flush()
    except UserError as error:
        _stop(f"error: {error}", EXIT_BAD_INPUT)
    except torch.OutOfMemoryError:
        _stop("error: the GPU ran out of memory: lower the batch size", EXIT_BAD_INPUT)
    except (MemoryError, RuntimeError) as error:
        if processes.is_lost_rank_error(error):
            _stop(LOST, EXIT_BAD_INPUT)
        if isinstance(error, RuntimeError) and CPU_ALLOCATOR not in str(error):
            raise
        _stop("error: out of memory: lower the batch size or the input size", EXIT_BAD_INPUT)
    except KeyboardInterrupt as interrupt:
        kept = interrupt.args[0] if any(interrupt.args) else NOTHING_SAVED
        code = EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
        _stop(f"interrupted: {kept}", code)
    except BrokenPipeError:  # `... | head` closed our output: not worth a word
        drop_output()
        sys.exit(EXIT_UNREAD)
    except OSError as error:  # where nothing else tells it, as of what is printed
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"error: {where}{_reason(error)}", EXIT_BAD_INPUT)


def _stop(line, code):
    words = " ".join(line.split())
    one_line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in words)
    try:
        flush()
    except OSError:
        drop_output()
    if processes.claim_error_report():
        with suppress(OSError):
            print(f"{os.path.basename(sys.argv[0])}: {one_line}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def wrap_os_errors(doing, advice=""):
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
