"""One process at a time: a lock on a file, which the system takes away from a process that dies."""

import errno
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.runtime import processes
from utils.runtime.errors import UserError, wrap_os_errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

PATIENCE_SECONDS = 0.3  # who looks whether a lock is free holds it for a moment
TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def exclusive_lock(path, what):
    """Nobody else may do inside this what they would do under the same path.

    path: of the file that stands for the work; the lock lies beside it and is removed afterwards,
    one of a killed process by `utils.io.files.remove_stale_files`. Raises UserError if another
    process is at it. what: is said to be written by it. A file system that has no locks gives none.
    Of processes that work together the first has the lock for all.
    """
    path, descriptors = Path(path), []
    lock = path.with_name(f".{path.name}.lock")
    _take(lock, what, descriptors)
    try:
        yield
    finally:
        for descriptor in descriptors:
            remove_if_unlocked(lock, descriptor)


@processes.rank_zero_only
def _take(lock, what, descriptors):
    """Lock the file, and put its descriptor into the list."""
    with wrap_os_errors(f"cannot write {lock}"):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _taken(lock)
    if descriptor is None:
        raise UserError(
            f"{what} is being written by another run: wait until it has ended, or stop it"
        )
    descriptors.append(descriptor)


def try_lock(descriptor):
    """Lock an open file until it is closed; whether nobody else had."""
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in TAKEN
    return True


def remove_if_unlocked(path, descriptor=None):
    """Remove a file that nobody holds a lock on; descriptor: of our own, which is closed."""
    with suppress(OSError):  # somebody else was faster, or the folder may not be written to
        own = os.open(path, os.O_RDWR) if descriptor is None else descriptor
        try:
            if fcntl and (descriptor is not None or try_lock(own)):
                path.unlink()  # before the lock ends, so that nobody locks a file without a name
        finally:
            os.close(own)
        if not fcntl:  # Windows removes no open file, and a locked one is open
            path.unlink()


def _taken(lock):
    """The descriptor of `lock`, made and locked; None if it stays another's."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        if try_lock(descriptor) and _is_still(lock, descriptor):
            return descriptor
        os.close(descriptor)
        if time.monotonic() > until:
            return None
        time.sleep(PATIENCE_SECONDS / 10)


def _is_still(lock, descriptor):
    """Whether the file has not been removed between opening and locking it."""
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False
