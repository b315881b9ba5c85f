"""Exclusive locks on files, which the system releases when a process dies.

Not filelock, although torch installs it: it leaves its lock files behind, and on a file system
without locks it either fails or falls back to marker files that outlive a killed process.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.runtime import processes
from utils.runtime.errors import UserError, wrap_os_errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

WAIT_SECONDS = 0.3  # remove_if_unlocked holds a lock for a moment
LOCKED_ERRORS = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def exclusive_lock(path: str | Path, what: str | Path) -> Iterator[None]:
    """Hold an exclusive lock for writing `path`: one run at a time.

    The lock is the file `.{name}.lock` in the same folder. It is removed at the end; that of a
    killed process is removed by `utils.io.files.remove_stale_files`. With several ranks, rank 0
    holds the lock for all of them. On a file system without locks, this does nothing.

    path: file or folder to be written. what: how the error message names it. Raises UserError if
    another process holds the lock.
    """
    path, descriptors = Path(path), []
    lock = path.with_name(f".{path.name}.lock")
    _acquire(lock, what, descriptors)
    try:
        yield
    finally:
        for descriptor in descriptors:
            remove_if_unlocked(lock, descriptor)


@processes.rank_zero_only
def _acquire(lock, what, descriptors):
    """Lock the file and append its descriptor to the list."""
    with wrap_os_errors(f"cannot write {lock}"):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(lock)
    if descriptor is None:
        raise UserError(f"{what} is being written by another run: wait until it ends, or stop it")
    descriptors.append(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; return False if another process holds the lock.

    Returns True on a file system without locks.
    """
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in LOCKED_ERRORS
    return True


def remove_if_unlocked(path: Path, descriptor: int | None = None) -> None:
    """Remove a file unless another process holds a lock on it.

    descriptor: this process's own locked descriptor of the file, which is closed.
    """
    with suppress(OSError):  # removed by another process, or the folder is read-only
        opened = os.open(path, os.O_RDWR) if descriptor is None else descriptor
        try:
            if fcntl and (descriptor is not None or try_lock(opened)):
                path.unlink()  # while locked: nobody can lock a file that has lost its name
        finally:
            os.close(opened)
        if not fcntl:  # Windows removes no open file, and a locked file is open
            path.unlink()


def _open_locked(lock):
    """Create and lock the file; return its descriptor, or None if it stays locked."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        if try_lock(descriptor) and _still_exists(lock, descriptor):
            return descriptor
        os.close(descriptor)
        if time.monotonic() > deadline:
            return None
        time.sleep(WAIT_SECONDS / 10)


def _still_exists(lock, descriptor):
    """Return False if the file was removed between opening and locking it."""
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False
