"""Work beside the work: what a run leaves in a file for its resumption need not be waited for."""

import copy
from concurrent.futures import ThreadPoolExecutor

import torch

from utils.runtime import processes


class BackgroundWorker:
    """Does one thing at a time in a thread of its own.

    Processes that work together do it at once instead: what they tell each other has an order.
    Ctrl-C may come while it is waited for, and it can be waited for again; of a Thread that cannot
    be said: Python 3.11 takes one whose `join` was interrupted for ended.
    """

    def __init__(self):
        self._pool, self._begun = ThreadPoolExecutor(1), None

    def submit(self, work):
        """Begin `work()` once the one before has ended, whose error, if it had one, is raised."""
        self.wait()
        if processes.world_size() > 1:
            work()
        else:
            self._begun = self._pool.submit(work)

    def wait(self):
        """Wait for what was begun last. Raises what it raised."""
        error = self._begun and self._begun.exception()
        self._begun = None
        if error:
            raise error


def copy_to_cpu(content):
    """Plain data and tensors, nested in dicts, lists and tuples, as they are now, on the CPU."""
    match content:
        case torch.Tensor():
            return content.detach().to("cpu", copy=True)
        case dict():  # a state_dict tells the versions of its modules beside what it holds
            whole = copy.copy(content)
            whole.update((key, copy_to_cpu(part)) for key, part in content.items())
            return whole
        case list():
            return [copy_to_cpu(part) for part in content]
        case tuple():
            return tuple(copy_to_cpu(part) for part in content)
    return content
