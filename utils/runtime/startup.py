"""Ctrl-C while a script still imports torch: one line as well, and not where Python stood.

Only a script that is run as a program asks for it, before it imports anything else. Elsewhere, as
in a notebook, Ctrl-C stays what it was.
"""

import os
import signal
import sys

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
NOTHING_SAVED = "nothing unfinished was saved"


def end_at_once(*_):
    """A signal's handler. Libraries may catch a KeyboardInterrupt during their import: none is."""
    line = f"{os.path.basename(sys.argv[0])}: interrupted: {NOTHING_SAVED}\n"
    try:
        os.write(2, line.encode(errors="backslashreplace"))
    finally:
        os._exit(EXIT_INTERRUPTED)


def end_on_ctrl_c():
    """Ask for it, until `utils.runtime.errors.run_script` takes over."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, end_at_once)
