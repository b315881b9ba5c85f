"""Memory-mapped arrays of a .npz file: the members are decompressed once and kept in a cache.

A compressed member cannot be read in part, and np.load maps no member of a .npz file. Each member
is therefore decompressed in chunks into a .npy file; if the .npz file has changed since, again.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from utils.io.files import check_writable
from utils.io.locks import exclusive_lock
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import local_rank_zero_first

CHUNK_SIZE = 2**20  # bytes
SOURCE_FILE = "source.json"  # path, size and time of the .npz file
ADVICE = ": name another folder with --cache_dir"
MAX_STEM = 40  # characters of the file's name in the name of its folder


def default_cache() -> Path:
    """Return the cache folder of the XDG Base Directory Specification. Raises UserError."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # for example a container's user without an entry in the user database
        raise UserError("there is no home folder to unpack data files to" + ADVICE) from None
    return home / "medical-unlearning"


@local_rank_zero_first
def map_arrays(
    path: str | Path, keys: Iterable[str], cache: str | None = None
) -> dict[str, np.ndarray]:
    """Return memory-mapped arrays of a .npz file by key.

    Changes to the arrays do not reach the files. Raises UserError if a member is damaged or the
    cache is not writable.
    """
    path, cache = Path(path), Path(cache or default_cache())
    with _locked_folder(path, cache) as folder:
        files = {key: folder / f"{key}.npy" for key in keys}
        if not all(file.exists() for file in files.values()):
            _decompress(path, files)
        return {key: _map_file(file) for key, file in files.items()}


@local_rank_zero_first
def map_chunks(
    path: str | Path,
    key: str,
    chunks: Iterable[np.ndarray],
    shape: tuple[int, ...],
    cache: str | None = None,
) -> np.ndarray:
    """Return the memory-mapped concatenation of `chunks`, (M, ...) uint8 each, of the given shape.

    The file `key` is created only if the cache of `path` does not have it. Raises UserError if the
    cache is not writable.
    """
    with _locked_folder(Path(path), Path(cache or default_cache())) as folder:
        file = folder / f"{key}.npy"
        if not file.exists():
            # not through a memory map: writing to one on a full disk kills the process
            with _atomic_stream(file) as stream:
                layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, layout)
                for chunk in chunks:
                    stream.write(np.ascontiguousarray(chunk, np.uint8))
        return _map_file(file)


@contextmanager
def _locked_folder(path, cache):
    """Lock and yield the cache folder of a file; empty it if the file has changed."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    folder = cache / f"{path.stem[:MAX_STEM]}-{digest[:12]}"
    check_writable(cache, ADVICE)
    with wrap_os_errors(f"cannot unpack {path} into {cache}"), exclusive_lock(folder, folder):
        stat = path.stat()
        source = {"path": str(path.resolve()), "size": stat.st_size, "time": stat.st_mtime_ns}
        if _read_source(folder) != source:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / SOURCE_FILE).write_text(json.dumps(source))
        yield folder


@contextmanager
def _atomic_stream(file):
    """Yield a stream to a temporary file that is renamed to `file` if no error occurs."""
    temporary = file.with_name(f".{file.name}.unfinished")
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _map_file(file):
    try:
        return np.load(file, mmap_mode="c")
    except (EOFError, ValueError) as error:
        raise UserError(
            f"{file} is damaged: delete its folder, it will be created again"
        ) from error


def _read_source(folder):
    try:
        return json.loads((folder / SOURCE_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def _decompress(path, files):
    try:
        with zipfile.ZipFile(path) as archive:
            for key, file in files.items():
                with (
                    archive.open(f"{key}.npy") as member,  # checks the CRC at the end
                    _atomic_stream(file) as stream,
                ):
                    shutil.copyfileobj(member, stream, CHUNK_SIZE)
    except (zipfile.BadZipFile, zipfile.zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as .npz, it may be cut short: {error}") from error
