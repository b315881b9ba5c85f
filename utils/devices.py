"""Which device the work runs on."""

import torch

from utils.errors import UserError


def pick_device(name="auto"):
    """The torch.device called `name`; `auto` is the first GPU, or the CPU where there is none.

    On a GPU only kernels that give the same result at every run are chosen, so that the same
    command gives the same weights. Raises UserError if the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"--device {name} is not there: use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
    return device


def describe(device):
    """What the device is, for people: the GPU's name, or how many CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
