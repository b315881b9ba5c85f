"""File names that stay in their folder, and atomic writes.

The standard library has no atomic write that also locks its temporary file and syncs the folder,
and no library that is installed anyway has one.
"""

import difflib
import errno
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from utils.io.locks import remove_if_unlocked, try_lock
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import rank_zero_only

MODEL_FOLDER = Path("model_weights")
SALIENCY_FOLDER = Path("SaliencyMaps")
PICTURE_FOLDER = Path("pics")
RESULT_FOLDER = Path("results")
FOLDERS = {str(folder) for folder in (MODEL_FOLDER, SALIENCY_FOLDER, PICTURE_FOLDER, RESULT_FOLDER)}

MAX_ID_LENGTH = 200  # characters; file systems allow 255 bytes, suffixes included
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?<!\.)")  # Windows drops trailing dots
RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", re.IGNORECASE)  # Windows' devices
TEMPORARY = re.compile(r"\..+\.(?P<process>\d+)\.(?:tmp|part)|\..+\.lock")
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)  # file systems that cannot sync a folder


def check_id(name: str, flag: str) -> str:
    """Return `name` if it is a valid file name on every platform.

    Raises UserError that names `flag` otherwise.
    """
    is_name = ID_PATTERN.fullmatch(name) and not RESERVED.fullmatch(name)
    if not is_name or len(name) > MAX_ID_LENGTH:
        raise UserError(
            f"{flag} {name!r} is not a usable id: use letters, digits, '.', '_' and '-' only, "
            f"starting with a letter or digit, at most {MAX_ID_LENGTH} characters, no folders, "
            "no '.' at the end, no Windows device name (CON, NUL, COM1, ...)"
        )
    return name


def check_inside(path: Path) -> Path:
    """Return `path` (folder/name or folder/name/name) if no link in it leads out of the folder.

    The first folder may itself be a link, for example to a larger disk. Raises UserError otherwise.
    """
    with wrap_os_errors(f"cannot find {path}"):  # the current folder may have been removed
        home, real = (Path(os.path.realpath(part)) for part in (path.parts[0], path))
    if not real.is_relative_to(home):
        raise UserError(
            f"{path} is a link that leads out of {path.parts[0]}/: copy the file there, or link "
            "the whole folder"
        )
    return path


def check_overwrite(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise UserError if one of the files exists and `overwrite` is False."""
    existing = [str(path) for path in paths if path.exists()]
    if existing and not overwrite:
        raise UserError(
            f"{' and '.join(existing)} would be replaced: add --overwrite, or move what is to be "
            "kept"
        )


@rank_zero_only
def ensure_folder(folder: Path) -> None:
    """Create `folder`, check that it is writable, and remove stale files of killed runs.

    Called before long work, so that a run does not fail at its end. Raises UserError.
    """
    if FOLDERS.intersection(folder.parts[:1]):
        check_inside(folder)
    check_writable(folder)
    with wrap_os_errors(f"cannot write to the folder {folder}"):
        remove_stale_files(folder)


def check_writable(folder: Path, advice: str = "") -> None:
    """Create `folder` if needed, and write a temporary file to it.

    advice: appended to the error message, starts with a colon. Raises UserError if it fails.
    """
    with wrap_os_errors(f"cannot write to the folder {folder}", advice):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def remove_stale_files(folder: Path) -> None:
    """Remove the temporary files and lock files of dead processes."""
    for path in folder.iterdir():
        match = TEMPORARY.fullmatch(path.name)
        if match and not _is_running(match["process"]):
            remove_if_unlocked(path)  # it is locked if a process on another machine writes it


def _is_running(process):
    """Return whether another process with this number (or None) runs on this machine."""
    if process is None or int(process) == os.getpid() or os.name == "nt":
        return False  # on Windows, os.kill would end it; and no open file can be removed there
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's process
        return True
    return True


@rank_zero_only
def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`: an existing file stays whole until the new one is complete.

    When this returns, content and name are on the disk. Raises UserError if writing fails.
    """
    path = Path(path)
    if path.parts[0] in FOLDERS:
        check_inside(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with wrap_os_errors(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                try_lock(file.fileno())  # for remove_stale_files of other runs
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder):
    if os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def suggest_name(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the most similar of `names`, or an empty string."""
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""
