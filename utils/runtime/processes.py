"""Several processes that do one piece of work together, one device each, as torchrun starts them.

Every process runs the same program with the same seeds and comes to the same decisions; only the
networks' passes are parted (models/parallel.py). The first process alone prints and writes. Where
torchrun did not start the program, all of this does nothing.
"""

import os
import sys
import time
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps

import torch
import torch.distributed as dist

LONGEST_WAIT = timedelta(hours=1)  # for each other: the first may be downloading a data set
TELLING_SECONDS = 1.0  # left to the process that tells why all of them end
GLOO_CONNECTION = "gloo/transport"  # how gloo's RuntimeErrors name what they come from
CPU = torch.device("cpu")


@dataclass
class _Group:
    """number: this process's own, of `count`; local_number: among those of this machine."""

    number: int = 0
    count: int = 1
    local_number: int = 0
    local_count: int = 1
    store: object = None


_alone = _Group()
_group = _alone


def world_size():
    """How many processes work together."""
    return _group.count


def rank():
    """Which of them this is, from 0."""
    return _group.number


def is_rank_zero():
    """Whether this is the process that prints and writes."""
    return _group.number == 0


def local_rank_and_size():
    """(number, count) of this process among those on this machine."""
    return _group.local_number, _group.local_count


@contextmanager
def join_process_group():
    """Work with the other processes meanwhile, if torchrun started this one.

    What ends one of them ends all: it leaves at once, as waiting for the others to come to the
    same place would last for ever, and torchrun, or the lost connection, ends them.
    """
    global _group
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or "LOCAL_RANK" not in os.environ:
        yield
        return
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
    _group = _alone


def silence_other_ranks():
    """A context in which nothing appears of what the other processes print, bars included."""
    return _silence() if not is_rank_zero() else _nothing()


def claim_error_report():
    """Whether it is for this process to tell why it ends: the first to ask, all others end too."""
    if _group.count == 1:
        return True
    try:
        return _group.store.add("ended", 1) == 1
    except RuntimeError:  # the process that kept the store is gone: it has told
        return False


def is_lost_rank_error(error):
    """Whether an error says that another process is gone, as when it was killed."""
    return _group.count > 1 and GLOO_CONNECTION in str(error)


def all_ranks_equal(value):
    """Whether `value` (plain data) is what the first process has."""
    return _from_first(value) == value


def all_ranks_true(so):
    """Whether `so` holds on every process."""
    if _group.count == 1:
        return so
    told = torch.tensor(int(so))
    dist.all_reduce(told, dist.ReduceOp.MIN)
    return bool(told)


def rank_zero_only(work):
    """A decorator: only the first process does `work`; all wait for its end, and fail as it fails.

    The work returns nothing.
    """

    @wraps(work)
    def done_once(*given, **named):
        if _group.count == 1:
            work(*given, **named)
            return
        failure = None
        if is_rank_zero():
            try:
                with _as_if_alone():
                    work(*given, **named)
            except Exception as error:
                failure = error
        failure = _from_first(failure)
        if failure is not None:
            raise failure

    return done_once


def local_rank_zero_first(work):
    """A decorator: on each machine one process does `work` before all others there do it.

    So that the others find what it has made. Each is on its own meanwhile.
    """

    @wraps(work)
    def in_turn(*given, **named):
        if _group.local_number:
            _wait_for_all()
        with _as_if_alone():
            result = work(*given, **named)
        if _group.count > 1 and not _group.local_number:
            _wait_for_all()
        return result

    return in_turn


@contextmanager
def _as_if_alone():
    global _group
    together, _group = _group, _alone
    try:
        yield
    finally:
        _group = together


def _from_first(value):
    """The first process's `value`, on all."""
    if _group.count == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0, device=CPU)
    return told[0]


def _wait_for_all():
    dist.all_reduce(torch.zeros(1))


def _join():
    """Tensors on the CPU go by gloo, those on GPUs by nccl."""
    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    store, rank, world_size = next(dist.rendezvous("env://", timeout=LONGEST_WAIT))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if nccl else "gloo",
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=LONGEST_WAIT,
    )
    local = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    return _Group(rank, world_size, *local, store)


def _leave(code):
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(TELLING_SECONDS)
    os._exit(code)  # what is under way on a GPU would be waited for otherwise


@contextmanager
def _nothing():
    yield


@contextmanager
def _silence():
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        yield
