"""The precision that a network trains in: float32, or bfloat16 for its products and convolutions.

bf16 keeps weights, gradients' sums, losses and the optimizer in float32 (torch's autocast). It is
for learning alone: what is measured of a model, and its saliency, is worked out in float32.
"""

from contextlib import contextmanager
from pathlib import Path

import torch

from utils.train.recipe import AUTO, BF16, FLOAT32

CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # processors that multiply bf16 faster than float32


def pick_precision(name, device):
    """FLOAT32 or BF16; `auto` is BF16 where `device` has instructions for it."""
    if name != AUTO:
        return name
    return BF16 if _has_bf16(torch.device(device)) else FLOAT32


@contextmanager
def autocast_to(model, precision):
    """The model's forward passes are in `precision` within the block, and float32 after it."""
    model.use_bf16 = precision == BF16
    try:
        yield
    finally:
        model.use_bf16 = False


def _has_bf16(device):
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere; older ones imitate it
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:  # no Linux
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return bool(CPU_FLAGS & set(flags.split()))
