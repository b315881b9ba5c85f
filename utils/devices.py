"""Which device the work runs on."""

import os

import torch

from utils.errors import UserError

CUBLAS_REPEATABLE = ":4096:8"  # workspaces of fixed size, as torch's notes on randomness ask


def pick_device(name="auto", threads=None):
    """The torch.device called `name`; `auto` is the first GPU, or the CPU where there is none.

    threads: that the CPU works with from now on, by default as many as torch has chosen. How many
    there are changes the order of sums, so that they are not chosen anew by a clock at each start.

    On a GPU kernels that give the same result at every run are chosen, so that the same command
    gives the same weights; torch warns where it has none. Raises UserError if there is no such
    device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_REPEATABLE)  # read when CUDA starts
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"--device {name} is not there: use auto, cpu, cuda or cuda:1") from None
    if threads:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def describe(device):
    """What the device is, for people: the GPU's name, or how many CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}"
