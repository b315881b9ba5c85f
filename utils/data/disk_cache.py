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
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from utils.io.files import check_writable
from utils.io.locks import exclusive_lock
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import local_rank_zero_first

CHUNK_SIZE = 2**20  # bytes
NOTE = "source.json"  # which file it is from
ANOTHER = ": name another folder with --cache_dir"
NAME_PART = 40  # characters of the file's name in that of its folder


def default_cache():
    """The folder for what can be made again, as the XDG specification has it."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user of a container, say, whom the system does not know
        raise UserError("there is no home folder to unpack data files to" + ANOTHER) from None
    return home / "medical-unlearning"


@local_rank_zero_first
def map_arrays(path, keys, cache=None):
    """Arrays by key, mapped from files: the system holds what it has room for, and may drop it.

    Changes do not reach the files. Raises UserError if a key's member is damaged, or the cache
    cannot be written.
    """
    path, cache = Path(path), Path(cache or default_cache())
    with _folder_of(path, cache) as folder:
        files = {key: folder / f"{key}.npy" for key in keys}
        if not all(file.exists() for file in files.values()):
            _unpack(path, files)
        return {key: _mapped(file) for key, file in files.items()}


@local_rank_zero_first
def map_chunks(path, key, parts, shape, cache=None):
    """One array of `parts`, arrays one after the other, mapped from a file in path's folder.

    Of the same file, `key` and shape the parts are taken to be the same as the last time.
    """
    with _folder_of(Path(path), Path(cache or default_cache())) as folder:
        file = folder / f"{key}.npy"
        if not file.exists():
            with _unfinished(file) as stream:  # mapped, a full disk would end the process
                layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, layout)
                for part in parts:
                    stream.write(np.ascontiguousarray(part, np.uint8))
        return _mapped(file)


@contextmanager
def _folder_of(path, cache):
    """The folder of what was made of a file, which no other run writes to meanwhile.

    It is emptied if the file is not what it was.
    """
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    folder = cache / f"{path.stem[:NAME_PART]}-{digest[:12]}"
    check_writable(cache, ANOTHER)
    with wrap_os_errors(f"cannot unpack {path} into {cache}"), exclusive_lock(folder, folder):
        stat = path.stat()
        source = {"path": str(path.resolve()), "size": stat.st_size, "time": stat.st_mtime_ns}
        if _read_note(folder) != source:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / NOTE).write_text(json.dumps(source))
        yield folder


@contextmanager
def _unfinished(file):
    """A stream to another file, which gets the name of `file` when all went well."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        with open(unfinished, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def _mapped(file):
    try:
        return np.load(file, mmap_mode="c")
    except (EOFError, ValueError) as error:
        raise UserError(f"{file} is damaged: delete its folder, it is made again") from error


def _read_note(folder):
    try:
        return json.loads((folder / NOTE).read_bytes())
    except (OSError, ValueError):
        return None


def _unpack(path, files):
    try:
        with zipfile.ZipFile(path) as archive:
            for key, file in files.items():
                with (
                    archive.open(f"{key}.npy") as packed,  # its checksum is looked at on the way
                    _unfinished(file) as stream,
                ):
                    shutil.copyfileobj(packed, stream, CHUNK_SIZE)
    except (zipfile.BadZipFile, zipfile.zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as .npz, it may be cut short: {error}") from error
