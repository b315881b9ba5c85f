"""Several processes that work on one task, one device each, as torchrun starts them.

Every rank runs the same program with the same seeds and takes the same decisions; only the passes
through the networks are split across ranks (models/parallel.py). Rank 0 alone prints and writes.
Without torchrun, all of this does nothing.

Torch takes seconds to import, and a single process does not need it here: it is imported in the
functions that do.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import ParamSpec, TypeVar

from utils.runtime.startup import import_libraries

TIMEOUT = timedelta(hours=1)  # of one rank for the others: rank 0 may be downloading a data set
REPORT_SECONDS = 1.0  # for the rank that reports why all of them end
GLOO_CONNECTION = "gloo/transport"  # in the RuntimeErrors of gloo's lost connections

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class _Group:
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # on this machine
    local_world_size: int = 1
    store: object = None


_single = _Group()
_group = _single


def world_size() -> int:
    """Return the number of processes that work together."""
    return _group.world_size


def rank() -> int:
    """Return the number of this process, from 0."""
    return _group.rank


def is_rank_zero() -> bool:
    """Return whether this is the process that prints and writes."""
    return _group.rank == 0


def local_rank_and_size() -> tuple[int, int]:
    """Return this process's number among those on this machine, and how many there are."""
    return _group.local_rank, _group.local_world_size


@contextmanager
def join_process_group() -> Iterator[None]:
    """Work with the other ranks inside this context, if torchrun started this process.

    An error or an interrupt in one rank ends all of them. The rank leaves at once instead of
    waiting for the others, which would not end; torchrun or the lost connection ends them.
    """
    global _group
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or "LOCAL_RANK" not in os.environ:
        yield
        return
    import_libraries()
    import torch.distributed as dist

    _group = _join()
    try:
        yield
    except SystemExit as end:
        if end.code:
            _leave(end.code)
    except BaseException:
        if claim_error_report():
            traceback.print_exc()
        _leave(1)
    dist.destroy_process_group()
    _group = _single


def silence_other_ranks() -> AbstractContextManager[None]:
    """Return a context in which only rank 0 prints, progress bars included."""
    return _nothing() if is_rank_zero() else _silence()


def claim_error_report() -> bool:
    """Return whether this rank reports why all end: True for the first one that asks."""
    if _group.world_size == 1:
        return True
    try:
        return _group.store.add("ended", 1) == 1
    except RuntimeError:  # the rank that kept the store has ended: it has reported
        return False


def is_lost_rank_error(error: BaseException) -> bool:
    """Return whether the error is a lost connection to another rank, which may have been killed."""
    return _group.world_size > 1 and GLOO_CONNECTION in str(error)


def all_ranks_equal(value: object) -> bool:
    """Return whether `value` (plain data) equals that of rank 0."""
    return _broadcast(value) == value


def all_ranks_true(condition: bool) -> bool:
    """Return whether the condition holds on every rank."""
    if _group.world_size == 1:
        return condition
    import torch
    import torch.distributed as dist

    lowest = torch.tensor(int(condition))
    dist.all_reduce(lowest, dist.ReduceOp.MIN)
    return bool(lowest)


def rank_zero_only(work: Callable[P, None]) -> Callable[P, None]:
    """Decorate a function so that only rank 0 runs it; all wait, and raise what it raises.

    The function returns nothing.
    """

    @wraps(work)
    def run_on_rank_zero(*args, **kwargs):
        if _group.world_size == 1:
            work(*args, **kwargs)
            return
        failure = None
        if is_rank_zero():
            try:
                with _as_single_process():
                    work(*args, **kwargs)
            except Exception as error:
                failure = error
        failure = _broadcast(failure)
        if failure is not None:
            raise failure

    return run_on_rank_zero


def local_rank_zero_first(work: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that on each machine one rank runs it before the others do.

    The others then find the files that it made. Inside, each rank works on its own.
    """

    @wraps(work)
    def run_in_turn(*args, **kwargs):
        if _group.local_rank:
            _barrier()
        with _as_single_process():
            result = work(*args, **kwargs)
        if _group.world_size > 1 and not _group.local_rank:
            _barrier()
        return result

    return run_in_turn


@contextmanager
def _as_single_process():
    global _group
    together, _group = _group, _single
    try:
        yield
    finally:
        _group = together


def _broadcast(value):
    """Return rank 0's `value` on all ranks."""
    if _group.world_size == 1:
        return value
    import torch
    import torch.distributed as dist

    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def _barrier():
    import torch
    import torch.distributed as dist

    dist.all_reduce(torch.zeros(1))


def _join():
    """Join the group: gloo for tensors on the CPU, nccl for those on GPUs."""
    import torch
    import torch.distributed as dist

    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    store, rank, world_size = next(dist.rendezvous("env://", timeout=TIMEOUT))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if nccl else "gloo",
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )
    local = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    return _Group(rank, world_size, *local, store)


def _leave(code):
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(REPORT_SECONDS)
    os._exit(code)  # a normal exit would wait for the kernels that a GPU still runs


@contextmanager
def _nothing():
    yield


@contextmanager
def _silence():
    with (
        open(os.devnull, "w", encoding="utf-8") as null,
        redirect_stdout(null),
        redirect_stderr(null),
    ):
        yield
