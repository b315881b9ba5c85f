"""The random numbers that layers such as dropout draw, from the global state of their device."""

from contextlib import contextmanager

import torch


def get_rng_state(device):
    """The state of the random numbers that layers draw on `device`."""
    gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "gpu": gpu}


def set_rng_state(device, state):
    """Put them into a state that `get_rng_state` gave."""
    torch.set_rng_state(state["cpu"])
    if state["gpu"] is not None:
        torch.cuda.set_rng_state(state["gpu"], device)


@contextmanager
def forked_rng(seed, device):
    """Within the block layers draw from `seed` on; the global state comes back after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
