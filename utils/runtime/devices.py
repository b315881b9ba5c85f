"""The device that tensors are on: its choice, its settings and its description.

Torch is imported in the functions, so that a script's flags are parsed without it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from utils.runtime import processes
from utils.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

CUBLAS_WORKSPACE = ":4096:8"  # fixed sizes, as torch's notes on reproducibility ask
LOADAVG = Path("/proc/loadavg")


def pick_device(name: str = "auto", threads: int | None = None) -> "torch.device":
    """Return the torch.device called `name`, and set torch up for reproducible results.

    name: `cpu`, `cuda`, `cuda:1`, or `auto` for the first GPU, or the CPU where there is none. With
    several ranks, each takes a GPU of its own, by its local rank. threads: CPU threads of torch,
    None for torch's choice. The number changes the order of sums, so it is never chosen by timing.

    On a GPU, deterministic kernels are chosen, so that the same command gives the same weights;
    torch warns where it has none. Raises UserError if the device is not available.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if processes.world_size() > 1:
        name = _local_device(name)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)  # read when CUDA starts
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        raise UserError(
            f"--device {name} is not available: use auto, cpu, cuda or cuda:1"
        ) from None
    if threads:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.allow_tf32 = False  # full float32 precision, as on a CPU
        # it is for debugging, and costs time
        torch.utils.deterministic.fill_uninitialized_memory = False
    return device


def to_device_async(tensor: "torch.Tensor", device: "torch.device | str") -> "torch.Tensor":
    """Return a CPU tensor on `device`, without waiting for the copy to a GPU."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":  # a copy from memory that is not pinned may be waited for
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def describe(device: "torch.device") -> str:
    """Return the GPU's name or the number of CPU threads, and the number of processes."""
    import torch

    count = processes.world_size()
    ranks = f", {count} processes" if count > 1 else ""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) + ranks
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}{ranks}"


def print_busy_note(device: "torch.device") -> None:
    """Print a note if torch's CPU threads have to share cores with other programs."""
    import torch

    if device.type == "cpu":
        note = busy_note(_load(), os.cpu_count() or 1, torch.get_num_threads())
        if note:
            print(note)


def busy_note(load: float | None, cores: int, threads: int) -> str | None:
    """Return a note if `threads` threads do not fit on the free cores, else None.

    load: cores that other programs use, None if it is unknown. Threads that share a core wait for
    each other at every step: two threads next to one busy process on two cores take three times as
    long as one thread.
    """
    if load is None or threads == 1:
        return None
    free = max(0, cores - round(load))
    if free >= threads:
        return None
    return (
        f"note: other programs use about {round(load)} of {cores} cores, so {threads} threads may "
        f"take longer than fewer: add --threads {max(1, free)}"
    )


def _load():
    """Return how many cores other programs use, None if the system does not report it."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
    try:  # the average includes programs that have ended during the last minute
        running = int(LOADAVG.read_text().split()[3].partition("/")[0]) - 1  # without this one
    except (OSError, ValueError, IndexError):
        return load
    return min(load, running)


def _local_device(name):
    """Return the name of this rank's device, where `name` is the kind of device for all ranks."""
    import torch

    if name not in ("cpu", "cuda"):
        raise UserError(
            f"--device {name} is one device for {processes.world_size()} processes: use auto"
        )
    if not processes.all_ranks_equal(name):
        raise UserError("some of the processes have a GPU and others none: use --device cpu")
    local_rank, count = processes.local_rank_and_size()
    if name == "cuda" and torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        if count > gpus:
            raise UserError(
                f"{count} processes on a machine with {gpus} GPU{'s' if gpus > 1 else ''}: give "
                f"torchrun --nproc_per_node={gpus}, or use --device cpu"
            )
        torch.cuda.set_device(local_rank)  # for the communication between ranks
        return f"cuda:{local_rank}"
    return name
