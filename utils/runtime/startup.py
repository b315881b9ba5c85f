"""Ctrl-C while a script starts: one line instead of a traceback.

A script that runs as a program calls `end_on_ctrl_c` before its other imports, which are short.
After its flags are parsed, it calls `import_libraries`, which takes seconds. What is imported after
that is done in the functions that use it. Where a script is imported, as in a notebook, Ctrl-C
keeps its usual meaning.
"""

import os
import signal
import sys

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_TERMINATED = 143  # 128 + SIGTERM
NOTHING_SAVED = "nothing unfinished was saved"

_importing = False


def import_libraries() -> None:
    """Import the large libraries that every script needs: numpy, torch and torchvision.

    If `utils.runtime.signals` handles signals, one that arrives meanwhile ends the process at
    once. An exception would not be safe: torch catches any exception while it imports numpy, so
    that a KeyboardInterrupt is lost.
    """
    global _importing
    _importing = True
    try:
        import numpy  # noqa: F401
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    finally:
        _importing = False


def is_importing() -> bool:
    """Return whether `import_libraries` is running."""
    return _importing


def end_at_once(number: int, *_: object) -> None:
    """Print that the script was interrupted, and end the process; a signal handler."""
    line = f"{os.path.basename(sys.argv[0])}: interrupted: {NOTHING_SAVED}\n"
    try:
        os.write(2, line.encode(errors="backslashreplace"))
    finally:
        os._exit(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)


def end_on_ctrl_c() -> None:
    """Let Ctrl-C end the process at once, until `utils.runtime.errors.run_script` takes over."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, end_at_once)
