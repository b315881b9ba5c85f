"""Batches read ahead of their use, where the images do not lie on the device."""

import functools
import math
import mmap
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch

from utils.runtime.devices import to_device_async


def iter_batches(image_set, parts):
    """(images, labels) of `image_set` at each of `parts`, a list of positions (B,) int64, in turn.

    A set with `workers` has as many threads that read ahead, `max_batches_in_memory` at most.
    Threads and not processes: taking rows of a tensor leaves the other threads
    free, and processes would each hold memory of their own. A GPU gets the batches from pinned
    memory, by a stream beside the one that works, and is never waited for meanwhile.
    """
    if not image_set.workers:
        yield from map(image_set.batch, parts)
        return
    device, parts = image_set.device, _on_cpu(parts)
    copies = _beside(device) if device.type == "cuda" else None
    reads = deque()
    with ThreadPoolExecutor(image_set.workers) as pool:
        for part in parts:
            plan = image_set.batch_parts(part)
            under_way = [
                pool.submit(_rows, each, positions, copies is not None) if each.workers else None
                for each, positions in plan
            ]
            reads.append((part, plan, under_way))
            if len(reads) > image_set.workers:
                yield _brought(*reads.popleft(), image_set, copies)
        while reads:
            yield _brought(*reads.popleft(), image_set, copies)


def max_batches_in_memory(workers):
    """How many batches there are at a time: one in use, one just read, one a thread."""
    return workers + 2 if workers else 1


def _on_cpu(parts):
    """Positions where the images are, all at once: a GPU is waited for but once."""
    return torch.cat(parts).cpu().split([len(part) for part in parts]) if parts else []


@functools.cache
def _beside(device):
    """The one stream of a GPU that copies: memory is kept apart for each."""
    return torch.cuda.Stream(device)


def _rows(image_set, positions, pinned):
    return image_set.rows(positions, _pinned_memory if pinned else _own_memory)


def _pinned_memory(shape):
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


def _own_memory(shape):
    """Given back as soon as nobody needs it: the C library keeps what threads free, for each."""
    size = math.prod(shape)
    if size == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8).view(shape)


def _brought(part, plan, under_way, image_set, copies):
    device, pieces = image_set.device, []
    for (each, positions), read in zip(plan, under_way, strict=True):
        positions = to_device_async(
            positions, device
        )  # by an index of the CPU's it would be waited for
        if read is None:
            pieces.append(each.batch(positions))
        else:
            images = _on_device(read.result(), device, copies)
            pieces.append((images, each.labels[positions]))
    return image_set.collate(pieces, to_device_async(part, device))


def _on_device(images, device, copies):
    if copies is None:
        return images.to(device, non_blocking=True)
    with torch.cuda.stream(copies):
        images = images.to(device, non_blocking=True)
    working = torch.cuda.current_stream(device)
    working.wait_stream(copies)
    images.record_stream(working)  # or the memory could be given away while it is in use
    return images
