"""The global random state of a device, which layers such as dropout use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def get_rng_state(device: torch.device) -> dict[str, torch.Tensor | None]:
    """Return the global random state of the CPU and, for a GPU, of `device`."""
    gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "gpu": gpu}


def set_rng_state(device: torch.device, state: dict[str, torch.Tensor | None]) -> None:
    """Set the global random state to a `state` from `get_rng_state`."""
    torch.set_rng_state(state["cpu"])
    if state["gpu"] is not None:
        torch.cuda.set_rng_state(state["gpu"], device)


@contextmanager
def forked_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random state within the block, and restore it after the block."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
