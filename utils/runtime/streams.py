"""What is printed reaches any terminal, and a closed one ends nothing by itself."""

import io
import os
import sys
import warnings
from contextlib import suppress

LAST_STREAM = 2  # standard error's number


def harden_stdio():
    """From now on print whatever is to be printed, on any terminal and on none.

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


def flush():
    """Write what is printed so far. Raises OSError if it cannot be."""
    if sys.stdout:
        sys.stdout.flush()


def drop_output():
    """What was not written cannot be: Python would try again at its end."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
