"""Where the images of a data set are stored: on the device, in host memory, or on disk.

By default, the first of these with enough free memory. On disk means uncompressed files that are
memory-mapped.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.runtime import processes

if TYPE_CHECKING:
    import torch

AUTO, DEVICE, HOST, DISK = PLACES = ("auto", "device", "host", "disk")
MEMORY_FRACTION = 0.6  # of free memory; models, batches and other programs need the rest
DEFAULT_WORKERS = 2  # threads
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # a container's limit may be far below the machine's memory
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Placement:
    """The user's settings for storing images.

    place: one of PLACES. limit: bytes that the images may take in any memory, None for
    MEMORY_FRACTION of the free memory. cache: folder for uncompressed files, None for the default.
    workers: threads that decompress a file and read batches ahead.
    """

    place: str = AUTO
    limit: int | None = None
    cache: str | None = None
    workers: int = DEFAULT_WORKERS

    def uses_host_memory(self, size: int) -> bool:
        """Return whether `size` bytes of images are read into host memory."""
        return self.place in (DEVICE, HOST) or (self.place == AUTO and self._fits(size, "cpu"))

    def uses_device(self, size: int, device: "torch.device") -> bool:
        """Return whether `size` bytes of images are copied to `device`."""
        return self.place == DEVICE or (self.place == AUTO and self._fits(size, device))

    def _fits(self, size, device):
        """The same on all ranks; each rank has its own copy of the images."""
        import torch

        free = free_memory(device)
        available = float("inf") if free is None else MEMORY_FRACTION * free
        if torch.device(device).type == "cpu":
            available /= processes.local_rank_and_size()[1]
        fits = size <= (available if self.limit is None else min(available, self.limit))
        return processes.all_ranks_true(fits)


def free_memory(device: "torch.device | str") -> int | None:
    """Return the free memory of a device in bytes, or None if the system does not report it."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = [free for free in (_free_on_machine(), _free_in_container()) if free is not None]
    return min(known, default=None)


def parse_size(text: str) -> int:
    """Return the bytes of `500M`, `1.5G` or a plain number. Raises ValueError."""
    unit = UNITS.get(text[-1:].upper())
    size = float(text[:-1] if unit else text) * (unit or 1)
    if not 1 <= size < float("inf"):
        raise ValueError(text)
    return int(size)


def format_size(size: int) -> str:
    """Return `1.5 GB`, `20.0 MB` or `12.0 kB`, in powers of 1000."""
    for power, unit in ((9, "GB"), (6, "MB")):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size / 1000:.1f} kB"


def _free_on_machine():
    try:
        entries = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(entries["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:  # other systems than Linux: half of the installed memory
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _free_in_container():
    try:
        limit = int((CGROUP / "memory.max").read_text())  # "max" if there is no limit
        used = int((CGROUP / "memory.current").read_text())
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        cached = int(dict(line.split() for line in lines)["inactive_file"])
    except (OSError, KeyError, ValueError):
        return None
    return max(0, limit - used + cached)
