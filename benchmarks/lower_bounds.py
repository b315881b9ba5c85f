"""The speed of the machine, for lower bounds of run times."""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SIDE, GPU_SIDE = 2048, 8192  # of the matrices: a GPU needs large ones
COPIED_BYTES = 2**28
MIN_SECONDS = 0.5  # of a measurement


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating point operations per second of a product of two square matrices."""
    side = GPU_SIDE if device.type == "cuda" else SIDE
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _seconds_per_call(lambda: first @ second, device)


def copy_rate(device: torch.device) -> float:
    """Return the bytes per second that a copy within the memory of the device writes."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return COPIED_BYTES / _seconds_per_call(lambda: target.copy_(source), device)


def flops_per_image(model: nn.Module, images: torch.Tensor, backward: bool) -> float:
    """Return the floating point operations per image of `images` (B, C, H, W).

    backward: include the backward pass.
    """
    with FlopCounterMode(display=False) as counter:
        loss = model(images).sum()
        if backward:
            loss.backward()
    model.zero_grad()
    return counter.get_total_flops() / len(images)


def synchronize(device: torch.device) -> None:
    """Wait until all kernels of a GPU are finished; no effect on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds_per_call(work, device):
    work()
    synchronize(device)
    count, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < MIN_SECONDS:
        work()
        synchronize(device)
        count += 1
    return seconds / count
