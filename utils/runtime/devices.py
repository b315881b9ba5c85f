"""Which device the work runs on."""

import os

import torch

from utils.runtime import processes
from utils.runtime.errors import UserError

CUBLAS_REPEATABLE = ":4096:8"  # workspaces of fixed size, as torch's notes on randomness ask


def pick_device(name="auto", threads=None):
    """The torch.device called `name`; `auto` is the first GPU, or the CPU where there is none.

    threads: that the CPU works with from now on, by default as many as torch has chosen. How many
    there are changes the order of sums, so that they are not chosen anew by a clock at each start.
    Of several processes each takes a GPU of its own, the first the first one of its machine.

    On a GPU kernels that give the same result at every run are chosen, so that the same command
    gives the same weights; torch warns where it has none. Raises UserError if there is no such
    device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if processes.world_size() > 1:
        name = _own_device(name)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_REPEATABLE)  # read when CUDA starts
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        raise UserError(f"--device {name} is not there: use auto, cpu, cuda or cuda:1") from None
    if threads:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32, as on a CPU
        # that finds faults, and costs time
        torch.utils.deterministic.fill_uninitialized_memory = False
    return device


def to_device_async(tensor, device):
    """What the CPU has just made, on `device`, which is not waited for."""
    device = torch.device(device)
    if device.type == "cuda":  # what is not pinned may be waited for all the same
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def describe(device):
    """What the device is, for people: the GPU's name, or how many CPU threads."""
    processes_said = f", {processes.world_size()} processes" if processes.world_size() > 1 else ""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) + processes_said
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}{processes_said}"


def _own_device(name):
    """The name of this process's device, of those that `name` is for each of several processes."""
    if name not in ("cpu", "cuda"):
        raise UserError(
            f"--device {name} is one device for {processes.world_size()} processes: use auto"
        )
    if not processes.all_ranks_equal(name):
        raise UserError("some of the processes have a GPU and others none: use --device cpu")
    number, count = processes.local_rank_and_size()
    if name == "cuda" and torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        if count > gpus:
            raise UserError(
                f"{count} processes on a machine with {gpus} GPU{'s' if gpus > 1 else ''}: give "
                f"torchrun --nproc_per_node={gpus}, or use --device cpu"
            )
        torch.cuda.set_device(number)  # for the messages of the processes to each other
        return f"cuda:{number}"
    return name
