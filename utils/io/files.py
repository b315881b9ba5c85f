"""Names that stay in their folder, and files that are either whole or not there."""

import difflib
import errno
import os
import re
import tempfile
from pathlib import Path

from utils.io.locks import remove_if_unlocked, try_lock
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import rank_zero_only

MODEL_FOLDER = Path("model_weights")
SALIENCY_FOLDER = Path("SaliencyMaps")
PICTURE_FOLDER = Path("pics")
RESULT_FOLDER = Path("results")
FOLDERS = {str(folder) for folder in (MODEL_FOLDER, SALIENCY_FOLDER, PICTURE_FOLDER, RESULT_FOLDER)}

MAX_ID_LENGTH = 200  # characters; file systems stop at 255 bytes, suffixes included
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?<!\.)")  # Windows drops dots at the end
RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", re.IGNORECASE)  # Windows' devices
UNFINISHED = re.compile(r"\..+\.(?P<process>\d+)\.(?:tmp|part)|\..+\.lock")
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)  # of file systems that cannot


def check_id(name, flag):
    """Return `name` if it can be a file name in any folder, or raise UserError naming `flag`."""
    is_name = ID_PATTERN.fullmatch(name) and not RESERVED.fullmatch(name)
    if not is_name or len(name) > MAX_ID_LENGTH:
        raise UserError(
            f"{flag} {name!r} is not a usable id: use letters, digits, '.', '_' and '-' only, "
            f"beginning with a letter or digit, {MAX_ID_LENGTH} characters at most, and no "
            "folders, no '.' at the end, no device of Windows (CON, NUL, COM1, ...)"
        )
    return name


def check_inside(path):
    """Return `path` (folder/name or folder/name/name) unless a link in it leads out of the folder.

    The first folder may itself be a link: whoever moves all models to another disk means to.
    """
    with wrap_os_errors(f"cannot find {path}"):  # the current folder may be gone
        home, real = (Path(os.path.realpath(part)) for part in (path.parts[0], path))
    if not real.is_relative_to(home):
        raise UserError(
            f"{path} is a link that leads out of {path.parts[0]}/: copy the file there, or link "
            "the whole folder"
        )
    return path


def check_overwrite(paths, overwrite):
    """Raises UserError if a file is there that would be replaced without having been asked to."""
    there = [str(path) for path in paths if path.exists()]
    if there and not overwrite:
        raise UserError(
            f"{' and '.join(there)} would be replaced: add --overwrite, or move what is to be kept"
        )


@rank_zero_only
def ensure_folder(folder):
    """Make `folder` and prove that it can be written to, before hours of work go by.

    What killed runs have left unfinished in it is removed.
    """
    if FOLDERS.intersection(folder.parts[:1]):
        check_inside(folder)
    check_writable(folder)
    with wrap_os_errors(f"cannot write to the folder {folder}"):
        remove_stale_files(folder)


def check_writable(folder, advice=""):
    """Make `folder`, which may be a place where others keep files too, and write to it.

    Raises UserError, with the advice (after a colon), if that fails.
    """
    with wrap_os_errors(f"cannot write to the folder {folder}", advice):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def remove_stale_files(folder):
    """Remove the unfinished files and locks of processes that are dead."""
    for path in folder.iterdir():
        match = UNFINISHED.fullmatch(path.name)
        if match and not _runs_elsewhere(match["process"]):
            remove_if_unlocked(path)  # locked by a process on another machine?


def _runs_elsewhere(process):
    """Whether there is another process of this number, None being none."""
    if process is None or int(process) == os.getpid() or os.name == "nt":
        return False  # Windows ends a process that is asked, and removes no file that is open
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


@rank_zero_only
def write_atomically(path, data):
    """Write the bytes `data` to `path`: whatever was there stays whole until the new file is.

    Both the bytes and the new name are on the disk when this returns.
    """
    path = Path(path)
    if path.parts[0] in FOLDERS:
        check_inside(path.parent)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with wrap_os_errors(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                try_lock(file.fileno())  # so that other runs see that it is not left over
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder):
    if os.name == "nt":  # which opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def suggest_name(name, names):
    """` (did you mean X?)` for the name of `names` most like `name`, or an empty string."""
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""
