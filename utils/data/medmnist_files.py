"""MedMNIST's official files: which there are, and a checked copy of one in medmnist's own cache.

medmnist (3.0.2) downloads straight to the final name and checks the MD5 only at the moment of the
download, so a file cut short is taken for whole the next time. Here a download goes to another
name, is checked, and only then gets its own; and a file already there is checked before its first
use.
"""

import os
import socket
from http.client import HTTPException
from pathlib import Path

import torchvision.datasets.utils as downloads
from medmnist.info import DEFAULT_ROOT, INFO

from utils.io.files import ensure_folder, write_atomically
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import local_rank_zero_first

SIZES = (28, 64, 128, 224)  # pixels; 28 has no suffix in the names of files
DATASETS = {info["python_class"]: flag for flag, info in INFO.items() if "3d" not in flag}
SILENCE_SECONDS = 60  # of a server, after which a download has failed
DATASETS_3D = [info["python_class"] for flag, info in INFO.items() if "3d" in flag]


@local_rank_zero_first
def fetch_medmnist_file(flag, size, root=None):
    """Path of a checked MedMNIST file, downloaded if need be.

    flag: medmnist's key, as `bloodmnist`. size: one of SIZES. root: the cache, by default
    medmnist's own. Raises UserError if the file is damaged and no whole one can be had.
    """
    root = root or DEFAULT_ROOT
    if root is None:
        raise UserError("medmnist's cache ~/.medmnist cannot be made: name one with --data_root")
    suffix = "" if size == 28 else f"_{size}"
    path = Path(root) / f"{flag}{suffix}.npz"
    md5 = INFO[flag][f"MD5{suffix}"]
    if _is_whole(path, md5):
        return path
    _download(INFO[flag][f"url{suffix}"], path, md5)
    return path


def _is_whole(path, md5):
    """Whether the file is there with MedMNIST's MD5, which is worked out once for each file."""
    if not path.exists():
        return False
    with wrap_os_errors(f"cannot read {path}"):
        stat = path.stat()
        proof = f"{md5} {stat.st_size} {stat.st_mtime_ns}".encode()
        note = path.with_name(f".{path.name}.checked")
        if note.exists() and note.read_bytes() == proof:
            return True
        if downloads.calculate_md5(path) != md5:
            return False
    if os.access(path.parent, os.W_OK):  # a read-only cache is checked at every use instead
        write_atomically(note, proof)
    return True


def _download(url, path, md5):
    damaged = path.exists()
    what = f"{path} is damaged or half-downloaded" if damaged else f"{path} is missing"
    ensure_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    print(f"{what}: downloading it from {url}")
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        downloads.download_url(url, str(path.parent), filename=unfinished.name, md5=md5)
        if damaged:
            os.replace(path, f"{path}.damaged")
        os.replace(unfinished, path)
    except (OSError, HTTPException, RuntimeError) as error:  # no network, or the MD5 differs
        raise UserError(
            f"{what}, and downloading it failed ({error}): fetch {url} on another computer and "
            f"put it there, or use --dataset SynthBloodMNIST or a .npz file of your own"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
        unfinished.unlink(missing_ok=True)
    _is_whole(path, md5)  # notes the check
