"""What a user can mend is told in one line, with exit code 2; everything else is a bug."""

import os
import sys
from contextlib import contextmanager

import torch

from utils import processes

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
LOST = "error: another process was killed: if memory was short, start fewer with --nproc_per_node"
CPU_ALLOCATOR = "DefaultCPUAllocator"  # how torch's RuntimeError names a lack of memory


class UserError(Exception):
    """Bad input or a bad place to write: the message says what is wrong and what to do."""


class NotFiniteError(UserError):
    """A loss or a model's outputs are not finite any more: the rate was too high."""

    def __init__(self, where):
        super().__init__(
            f"the loss is not finite any more {where}: this model was not saved; "
            "try a lower learning rate"
        )


def run_script(main):
    """Run a script's `main()`; turn what a user can mend into one line and an exit code.

    Of several processes one alone tells, whichever comes to it first.
    """
    with processes.joined():
        _run_one(main)


def _run_one(main):
    try:
        with processes.only_first_prints():
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
        _stop(f"interrupted: {kept}", EXIT_INTERRUPTED)
    except BrokenPipeError:  # `... | head` closed our output: not worth a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
        raise UserError(f"{doing}: {error.strerror or error}") from error
