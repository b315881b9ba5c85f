"""Where the images of a data set lie while work is done on them: chosen by their size.

On the device if they fit there; else in host memory; else on disk, unpacked and mapped into memory.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from utils.runtime import processes

AUTO, DEVICE, HOST, DISK = PLACES = ("auto", "device", "host", "disk")
MEMORY_FRACTION = (
    0.6  # of the memory that is free: models, batches and other programs need some as well
)
DEFAULT_WORKERS = 2  # threads
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # of a container, whose own limit may be far below the machine's
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Placement:
    """What the user says of it.

    place: one of PLACES. limit: bytes that the images may take of any memory, None for
    MEMORY_FRACTION of what is free. cache: folder for unpacked files, None for the user's own.
    workers: threads that unpack a file, and that read batches ahead.
    """

    place: str = AUTO
    limit: int | None = None
    cache: str | None = None
    workers: int = DEFAULT_WORKERS

    def in_memory(self, size):
        """Whether `size` bytes of images are to be read into host memory."""
        return self.place in (DEVICE, HOST) or (self.place == AUTO and self._fits(size, "cpu"))

    def on_device(self, size, device):
        """Whether they are to be copied to `device`."""
        return self.place == DEVICE or (self.place == AUTO and self._fits(size, device))

    def _fits(self, size, device):
        """The same on all processes that work together: each holds the images for itself."""
        free = free_memory(device)
        room = float("inf") if free is None else MEMORY_FRACTION * free
        if torch.device(device).type == "cpu":
            room /= processes.local_rank_and_size()[1]
        fits = size <= (room if self.limit is None else min(room, self.limit))
        return processes.all_ranks_true(fits)


def free_memory(device):
    """Bytes that can still be taken there, None if the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [free for free in (_free_of_machine(), _free_of_container()) if free is not None]
    return min(found, default=None)


def parse_size(text):
    """Bytes from `500M`, `1.5G` or a plain number. ValueError if it is neither."""
    unit = UNITS.get(text[-1:].upper())
    size = float(text[:-1] if unit else text) * (unit or 1)
    if not 1 <= size < float("inf"):
        raise ValueError(text)
    return int(size)


def format_size(size):
    """`1.5 GB`, `20.0 MB` or `12.0 kB`: powers of 1000."""
    for power, unit in ((9, "GB"), (6, "MB")):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size / 1000:.1f} kB"


def _free_of_machine():
    try:
        entries = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(entries["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:  # no Linux: half of what is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _free_of_container():
    try:
        most = int((CGROUP / "memory.max").read_text())  # "max" where there is no limit
        used = int((CGROUP / "memory.current").read_text())
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        cached = int(dict(line.split() for line in lines)["inactive_file"])
    except (OSError, KeyError, ValueError):
        return None
    return max(0, most - used + cached)
