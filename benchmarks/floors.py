"""How fast the machine is by itself: the least time that work can take on it."""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

SIDE, GPU_SIDE = 2048, 8192  # of the matrices: a GPU has to be asked for much at a time
COPIED = 2**28  # bytes
LEAST_SECONDS = 0.5  # of a measurement


def matmul_rate(device, dtype):
    """Floating point operations a second of a product of two square matrices."""
    side = GPU_SIDE if device.type == "cuda" else SIDE
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _seconds_of(lambda: first @ second, device)


def copy_rate(device):
    """Bytes a second that a copy within the device's memory writes."""
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return COPIED / _seconds_of(lambda: target.copy_(source), device)


def flops_an_image(model, images, backward):
    """Floating point operations for one of `images` (B, C, H, W), forward, or with backward."""
    with FlopCounterMode(display=False) as counter:
        loss = model(images).sum()
        if backward:
            loss.backward()
    model.zero_grad()
    return counter.get_total_flops() / len(images)


def wait_for(device):
    """Until everything that a GPU was asked to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds_of(work, device):
    work()
    wait_for(device)
    count, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < LEAST_SECONDS:
        work()
        wait_for(device)
        count += 1
    return seconds / count
