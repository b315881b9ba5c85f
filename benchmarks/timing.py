"""Time two implementations alternately, so that other load affects both equally."""

import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lower_bounds
import torch

SAMPLING_INTERVAL = 0.005  # seconds


@dataclass(frozen=True)
class Comparison:
    """Medians over the rounds: seconds of ours and of the plain loop, and the ratio plain / ours.

    peak: maximum memory in bytes of the process, or of the GPU, while ours ran.
    """

    ours: float
    plain: float
    ratio: float
    peak: int


def compare(
    ours: Callable[[], object],
    plain: Callable[[], object],
    rounds: int,
    device: torch.device,
    once: bool = False,
) -> Comparison:
    """Time two functions without arguments alternately, `rounds` times each.

    On a GPU each is called once before, because kernels are chosen and loaded on their first use.
    once: run one round only, without the call before, for functions that take long.
    """
    if device.type == "cuda" and not once:
        ours(), plain()
    seconds, others, peak = [], [], 0
    for _ in range(1 if once else rounds):
        seconds_ours, memory = measure(ours, device)
        seconds.append(seconds_ours)
        peak = max(peak, memory)
        others.append(measure(plain, device)[0])
    ratio = statistics.median(b / a for a, b in zip(seconds, others, strict=True))
    return Comparison(statistics.median(seconds), statistics.median(others), ratio, peak)


def measure(work: Callable[[], object], device: torch.device) -> tuple[float, int]:
    """Return (seconds, maximum memory in bytes of the process or of the GPU) of a function."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        lower_bounds.synchronize(device)
        began = time.perf_counter()
        work()
        lower_bounds.synchronize(device)
        return time.perf_counter() - began, torch.cuda.max_memory_allocated(device)
    with _MemorySampler() as sampler:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began, sampler.sample()


class _MemorySampler:
    """Samples the resident memory of this process, and keeps the maximum; 0 if not available."""

    def __enter__(self):
        self.peak, self.stop = 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def sample(self):
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
        except OSError:
            pages = 0
        self.peak = max(self.peak, pages * os.sysconf("SC_PAGE_SIZE"))
        return self.peak

    def _run(self):
        while not self.stop.wait(SAMPLING_INTERVAL):
            self.sample()
