"""Two ways to do the same work, timed in turn so that both meet the same neighbours."""

import os
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import floors
import torch

SAMPLED_EVERY = 0.005  # seconds


@dataclass(frozen=True)
class Pair:
    """Medians over the rounds: seconds of ours and of the plain loop, and plain over ours.

    peak: bytes that the process, or the GPU, held at most while ours was at work.
    """

    ours: float
    plain: float
    ratio: float
    peak: int


def in_turn(ours, plain, rounds, device, once=False):
    """The Pair of two functions of no arguments, each called `rounds` times.

    On a GPU each is called once before, because kernels are chosen and loaded on their first use.
    once: that would take too long, and one round is all.
    """
    if device.type == "cuda" and not once:
        ours(), plain()
    seconds, others, peak = [], [], 0
    for _ in range(1 if once else rounds):
        own, memory = timed(ours, device)
        seconds.append(own)
        peak = max(peak, memory)
        others.append(timed(plain, device)[0])
    ratio = statistics.median(b / a for a, b in zip(seconds, others, strict=True))
    return Pair(statistics.median(seconds), statistics.median(others), ratio, peak)


def timed(work, device):
    """(seconds, bytes that the process, or the GPU, held at most) of a function."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        floors.wait_for(device)
        began = time.perf_counter()
        work()
        floors.wait_for(device)
        return time.perf_counter() - began, torch.cuda.max_memory_allocated(device)
    with _Watch() as watch:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began, watch.look()


class _Watch:
    """The largest resident memory of this process while it is open; 0 where it is not told."""

    def __enter__(self):
        self.peak, self.ended = 0, threading.Event()
        self.thread = threading.Thread(target=self._go_on, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def look(self):
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
        except OSError:
            pages = 0
        self.peak = max(self.peak, pages * os.sysconf("SC_PAGE_SIZE"))
        return self.peak

    def _go_on(self):
        while not self.ended.wait(SAMPLED_EVERY):
            self.look()
