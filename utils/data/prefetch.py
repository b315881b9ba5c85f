"""Read batches ahead of their use when the images are not on the device."""

import functools
import math
import mmap
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from utils.runtime.devices import to_device_async

if TYPE_CHECKING:
    from utils.data.datasets import CompositeSet, ImageSet


def iter_batches(
    image_set: "ImageSet | CompositeSet", batches: list[torch.Tensor]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (images, labels) of `image_set` for each of `batches`, positions (B,) int64.

    If the set has `workers`, as many threads read ahead, up to `max_batches_in_memory`. Threads and
    not processes: indexing a tensor releases the interpreter lock, and each process would need
    memory of its own. For a GPU, batches are copied from pinned memory on a separate stream,
    without synchronization.
    """
    if not image_set.workers:
        yield from map(image_set.batch, batches)
        return
    device, batches = image_set.device, _to_cpu(batches)
    copy_stream = _copy_stream(device) if device.type == "cuda" else None
    pending = deque()
    with ThreadPoolExecutor(image_set.workers) as pool:
        for positions in batches:
            parts = image_set.batch_parts(positions)
            reads = [
                pool.submit(_read_images, part, own, copy_stream is not None)
                if part.workers
                else None
                for part, own in parts
            ]
            pending.append((positions, parts, reads))
            if len(pending) > image_set.workers:
                yield _finish_batch(*pending.popleft(), image_set, copy_stream)
        while pending:
            yield _finish_batch(*pending.popleft(), image_set, copy_stream)


def max_batches_in_memory(workers: int) -> int:
    """Return the largest number of batches in memory: one in use, one ready, one per thread."""
    return workers + 2 if workers else 1


def _to_cpu(batches):
    """Move all positions to the CPU at once, which synchronizes with a GPU only once."""
    return torch.cat(batches).cpu().split([len(part) for part in batches]) if batches else []


@functools.cache
def _copy_stream(device):
    """Return the one copy stream of a GPU: the allocator keeps separate memory for each stream."""
    return torch.cuda.Stream(device)


def _read_images(image_set, positions, pinned):
    return image_set.read_images(positions, _allocate_pinned if pinned else _allocate_mapped)


def _allocate_pinned(shape):
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


def _allocate_mapped(shape):
    """Allocate memory that is returned to the system when freed.

    The C library would keep memory that threads free, separately for each thread.
    """
    size = math.prod(shape)
    if size == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8).view(shape)


def _finish_batch(positions, parts, reads, image_set, copy_stream):
    device, pieces = image_set.device, []
    for (part, own), read in zip(parts, reads, strict=True):
        own = to_device_async(own, device)  # indexing by a CPU tensor would synchronize
        if read is None:
            pieces.append(part.batch(own))
        else:
            images = _copy_to_device(read.result(), device, copy_stream)
            pieces.append((images, part.labels[own]))
    return image_set.collate(pieces, to_device_async(positions, device))


def _copy_to_device(images, device, copy_stream):
    if copy_stream is None:
        return images.to(device, non_blocking=True)
    with torch.cuda.stream(copy_stream):
        images = images.to(device, non_blocking=True)
    current = torch.cuda.current_stream(device)
    current.wait_stream(copy_stream)
    images.record_stream(current)  # the allocator must not reuse the memory while it is in use
    return images
