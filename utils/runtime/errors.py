"""Errors that a user can mend end a script with one line and exit code 2; others are bugs."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from utils.runtime import processes
from utils.runtime.signals import Terminated, handle_termination
from utils.runtime.startup import EXIT_INTERRUPTED, EXIT_TERMINATED, NOTHING_SAVED
from utils.runtime.streams import drop_output, flush, harden_stdio

EXIT_BAD_INPUT = 2
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, which Python ignores
LOST_RANK = (
    "error: another process was killed: if memory was short, start fewer with --nproc_per_node"
)
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
CPU_ALLOCATOR = "DefaultCPUAllocator"  # in the message of torch's RuntimeError for full memory


class UserError(Exception):
    """Bad input or a file that cannot be written; the message says what is wrong and what to do."""


class NotFiniteError(UserError):
    """A loss, a model's outputs or its weights are not finite: the learning rate was too high."""

    def __init__(self, where: str):
        self.where = where
        super().__init__(
            f"the loss is not finite any more {where}: this model was not saved; "
            "try a lower learning rate"
        )

    def in_epoch(self, number: int, epochs: int) -> "NotFiniteError":
        """Return the same error with the epoch, 1-based, in which it occurred."""
        return NotFiniteError(f"in epoch {number} of {epochs}, {self.where}")


def interrupt_with_hint(interrupt: KeyboardInterrupt, kept: str | None) -> KeyboardInterrupt:
    """Return the interrupt with a message of what is `kept`, None for the usual message."""
    return type(interrupt)(kept)


def run_script(main: Callable[[], object]) -> None:
    """Run a script's `main()`; turn what a user can mend into one line and an exit code.

    With several ranks, the first one that fails prints the line.
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
    except (MemoryError, RuntimeError) as error:
        if _is_gpu_out_of_memory(error):
            _stop("error: the GPU ran out of memory: lower the batch size", EXIT_BAD_INPUT)
        if processes.is_lost_rank_error(error):
            _stop(LOST_RANK, EXIT_BAD_INPUT)
        if isinstance(error, RuntimeError) and CPU_ALLOCATOR not in str(error):
            raise
        _stop("error: out of memory: lower the batch size or the input size", EXIT_BAD_INPUT)
    except KeyboardInterrupt as interrupt:
        kept = interrupt.args[0] if any(interrupt.args) else NOTHING_SAVED
        code = EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
        _stop(f"interrupted: {kept}", code)
    except BrokenPipeError:  # `... | head` closed the pipe: no error of the user's
        drop_output()
        sys.exit(EXIT_BROKEN_PIPE)
    except OSError as error:  # of standard output, for example; files are in wrap_os_errors
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"error: {where}{_reason(error)}", EXIT_BAD_INPUT)


def _is_gpu_out_of_memory(error):
    torch = sys.modules.get("torch")  # not imported, or only in part, if the imports failed
    return isinstance(error, getattr(torch, "OutOfMemoryError", ()))


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
def wrap_os_errors(doing: str, advice: str = "") -> Iterator[None]:
    """Turn an OSError (full disk, no permission, missing folder) into a UserError `doing: why`.

    advice: appended to the message, starts with a colon; a full disk has its own advice.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{doing}: {_reason(error, advice)}") from error


def _reason(error, advice=""):
    """Return the system's message and what to do."""
    advice = ": make room and try again" if error.errno in DISK_FULL else advice
    return f"{error.strerror or error}{advice}"
