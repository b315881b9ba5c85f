"""Batches read ahead of their use, where the images do not lie on the device."""

import math
import mmap
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch


def feed(image_set, parts):
    """(images, labels) of `image_set` at each of `parts`, a list of positions (B,) int64, in turn.

    An ImageSet with `workers` has as many threads that read ahead, `batches_at_once` at most.
    Threads and not processes: taking rows of a tensor, mapped from a file or not, leaves the other
    threads free, and processes would each hold memory of their own. A GPU gets the batches from
    pinned memory, by a stream beside the one that works.
    """
    workers = getattr(image_set, "workers", 0)
    if not workers:
        yield from map(image_set.batch, parts)
        return
    device, parts = image_set.device, [part.cpu() for part in parts]
    copies = torch.cuda.Stream(device) if device.type == "cuda" else None
    reads = deque()
    with ThreadPoolExecutor(workers) as pool:
        for part in parts:
            reads.append((part, pool.submit(_rows, image_set, part, copies is not None)))
            if len(reads) > workers:
                yield _brought(*reads.popleft(), image_set, copies)
        while reads:
            yield _brought(*reads.popleft(), image_set, copies)


def batches_at_once(workers):
    """How many batches there are at a time: one in use, one just read, one a thread."""
    return workers + 2 if workers else 1


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


def _brought(positions, read, image_set, copies):
    images, labels = read.result(), image_set.labels[positions]
    if copies is None:
        return images, labels
    with torch.cuda.stream(copies):
        images = images.to(image_set.device, non_blocking=True)
    working = torch.cuda.current_stream(image_set.device)
    working.wait_stream(copies)
    images.record_stream(working)  # or the memory could be given away while it is in use
    return images, labels
