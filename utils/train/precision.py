"""Training precision: float32, or bfloat16 for matrix products and convolutions.

bf16 keeps weights, accumulated gradients, losses and the optimizer state in float32 (torch's
autocast). It is used for training only: evaluation and saliency are computed in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from utils.train.recipe import AUTO, BF16, FLOAT32

CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # CPUs that multiply bf16 faster than float32


def pick_precision(name: str, device: torch.device | str) -> str:
    """Return FLOAT32 or BF16; `auto` is BF16 where `device` has instructions for it."""
    if name != AUTO:
        return name
    return BF16 if _has_bf16(torch.device(device)) else FLOAT32


@contextmanager
def autocast_to(model: torch.nn.Module, precision: str) -> Iterator[None]:
    """Run the model's forward passes in `precision` within the block, and in float32 after it."""
    model.use_bf16 = precision == BF16
    try:
        yield
    finally:
        model.use_bf16 = False


def _has_bf16(device):
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere; older GPUs emulate it
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return bool(CPU_FLAGS & set(flags.split()))
