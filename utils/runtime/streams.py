"""Standard output and error work on every terminal, in a closed pipe and when closed."""

import io
import os
import sys
from contextlib import suppress

STDERR_DESCRIPTOR = 2


def harden_stdio() -> None:
    """Make standard output and error accept any text, in any encoding, and when closed.

    Letters outside the terminal's encoding are written as escapes. The descriptors of closed
    standard streams are opened on the null device: the next file opened would get their number,
    and warnings would be written to it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # reconfigure flushes, and the disk may be full
                stream.reconfigure(errors="backslashreplace")
    with suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= STDERR_DESCRIPTOR:
            pass
        os.close(opened)


def flush() -> None:
    """Flush standard output. Raises OSError if it cannot be written."""
    if sys.stdout:
        sys.stdout.flush()


def drop_output() -> None:
    """Send buffered output to the null device: Python would fail to flush it at exit."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
