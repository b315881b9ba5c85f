"""Arrays of a .npz file as files of their own that are mapped into memory, kept for the next time.

A member of a .npz is usually compressed, so that no part of it can be read without all that comes
before. Each is unpacked once, a little at a time, into a folder of the cache; a file that has
changed since is unpacked anew.
"""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np

from utils.errors import UserError, os_errors_told
from utils.files import remove_leftovers
from utils.locks import only_here
from utils.processes import first_on_each_machine

AT_ONCE = 2**20  # bytes
NOTE = "source.json"  # which file it is from
NAME_PART = 40  # characters of the file's name in that of its folder


def default_cache():
    """The folder for what can be made again, as the XDG specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medical-unlearning"


@first_on_each_machine
def mapped_arrays(path, keys, cache=None):
    """Arrays by key, mapped from files: the system holds what it has room for, and may drop it.

    Changes do not reach the files. Raises UserError if a key's member is damaged, or the cache
    cannot be written.
    """
    path, cache = Path(path), Path(cache or default_cache())
    folder = _folder(path, cache)
    with os_errors_told(f"cannot unpack {path} into {cache}"):
        stat = path.stat()
        source = {"path": str(path.resolve()), "size": stat.st_size, "time": stat.st_mtime_ns}
        if _read_note(folder) != source:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with only_here(folder, folder):
                _unpack(path, keys, folder, source)
        return {key: np.load(folder / f"{key}.npy", mmap_mode="c") for key in keys}


@first_on_each_machine
def mapped_parts(path, key, parts, shape, cache=None):
    """One array of `parts`, arrays one after the other, mapped from a file in path's folder."""
    cache = Path(cache or default_cache())
    file = _folder(Path(path), cache) / f"{key}.npy"
    with os_errors_told(f"cannot write into {cache}"):
        if not file.exists():
            unfinished = file.with_name(f".{file.name}.{os.getpid()}.tmp")
            remove_leftovers(file.parent)
            try:
                whole = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
                row = 0
                for part in parts:
                    whole[row : row + len(part)] = part
                    row += len(part)
                whole.flush()
                os.replace(unfinished, file)
            finally:
                unfinished.unlink(missing_ok=True)
        return np.load(file, mmap_mode="c")


def _folder(path, cache):
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    return cache / f"{path.stem[:NAME_PART]}-{digest[:12]}"


def _read_note(folder):
    try:
        return json.loads((folder / NOTE).read_bytes())
    except (OSError, ValueError):
        return None


def _unpack(path, keys, folder, source):
    """Under another name first: a folder that is there under its own is whole."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    unfinished.mkdir()
    try:
        with zipfile.ZipFile(path) as archive:
            for key in keys:
                with (
                    archive.open(f"{key}.npy") as packed,  # its checksum is looked at on the way
                    open(unfinished / f"{key}.npy", "wb") as file,
                ):
                    shutil.copyfileobj(packed, file, AT_ONCE)
                    file.flush()
                    os.fsync(file.fileno())
        (unfinished / NOTE).write_text(json.dumps(source))
        if folder.exists():  # it is of the file as it was before
            shutil.rmtree(folder)
        os.replace(unfinished, folder)
    except (zipfile.BadZipFile, zipfile.zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as .npz, it may be cut short: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
