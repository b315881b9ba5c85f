"""MedMNIST's official files: a verified copy of each in medmnist's own cache.

medmnist (3.0.2) downloads directly to the final name and checks the MD5 only then, so that it later
takes a truncated file for a complete one. Here a download goes to a temporary name until its MD5 is
verified, and an existing file is verified before its first use.
"""

import os
import socket
from http.client import HTTPException
from pathlib import Path

import torchvision.datasets.utils as downloads

from utils.data.medmnist_package import medmnist_module
from utils.io.files import ensure_folder, write_atomically
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import local_rank_zero_first

INFO = medmnist_module("info").INFO
DEFAULT_ROOT = medmnist_module("info").DEFAULT_ROOT
SIZES = (28, 64, 128, 224)  # pixels; file names have no suffix for 28
DATASETS = {info["python_class"]: flag for flag, info in INFO.items() if "3d" not in flag}
DATASETS_3D = [info["python_class"] for flag, info in INFO.items() if "3d" in flag]
TIMEOUT_SECONDS = 60  # without data from the server


@local_rank_zero_first
def fetch_medmnist_file(flag: str, size: int, root: str | Path | None = None) -> Path:
    """Return the path of a verified MedMNIST file; download it if it is missing or damaged.

    flag: medmnist's key, such as `bloodmnist`. size: one of SIZES. root: the cache folder, by
    default medmnist's own. Raises UserError if no complete file can be obtained.
    """
    root = root or DEFAULT_ROOT
    if root is None:
        raise UserError("medmnist's cache ~/.medmnist cannot be created: name one with --data_root")
    suffix = "" if size == 28 else f"_{size}"
    path = Path(root) / f"{flag}{suffix}.npz"
    md5 = INFO[flag][f"MD5{suffix}"]
    if _is_verified(path, md5):
        return path
    _download(INFO[flag][f"url{suffix}"], path, md5)
    return path


def _is_verified(path, md5):
    """Return whether the file has MedMNIST's MD5, which is computed once for each file."""
    if not path.exists():
        return False
    with wrap_os_errors(f"cannot read {path}"):
        stat = path.stat()
        stamp = f"{md5} {stat.st_size} {stat.st_mtime_ns}".encode()
        stamp_file = path.with_name(f".{path.name}.checked")
        if stamp_file.exists() and stamp_file.read_bytes() == stamp:
            return True
        if downloads.calculate_md5(path) != md5:
            return False
    if os.access(path.parent, os.W_OK):  # in a read-only cache, the MD5 is computed at every use
        write_atomically(stamp_file, stamp)
    return True


def _download(url, path, md5):
    damaged = path.exists()
    what = f"{path} is damaged or half-downloaded" if damaged else f"{path} is missing"
    ensure_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    print(f"{what}: downloading it from {url}")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        downloads.download_url(url, str(path.parent), filename=temporary.name, md5=md5)
        if damaged:
            os.replace(path, f"{path}.damaged")
        os.replace(temporary, path)
    except (OSError, HTTPException, RuntimeError) as error:  # no network, or another MD5
        raise UserError(
            f"{what}, and downloading it failed ({error}): fetch {url} on another computer and "
            f"put it there, or use --dataset SynthBloodMNIST or a .npz file of your own"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        temporary.unlink(missing_ok=True)
    _is_verified(path, md5)  # writes the stamp file
