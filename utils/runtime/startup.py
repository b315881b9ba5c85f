"""Ctrl-C before `run_script` handles it: one line instead of a traceback.

A script that runs as a program calls `end_on_ctrl_c` before its other imports. Where a script is
imported, as in a notebook, Ctrl-C keeps its usual meaning.
"""

import os
import signal
import sys

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
NOTHING_SAVED = "nothing unfinished was saved"


def end_at_once(*_: object) -> None:
    """Print that the script was interrupted, and end the process; a signal handler."""
    line = f"{os.path.basename(sys.argv[0])}: interrupted: {NOTHING_SAVED}\n"
    try:
        os.write(2, line.encode(errors="backslashreplace"))
    finally:
        os._exit(EXIT_INTERRUPTED)


def end_on_ctrl_c() -> None:
    """Let Ctrl-C end the process at once, until `utils.runtime.errors.run_script` takes over."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, end_at_once)
