"""Write checkpoints in a background thread while the run continues."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from utils.runtime import processes


class BackgroundWorker:
    """Run one task at a time in a thread.

    With several ranks, tasks run in the calling thread instead: the order of collective calls must
    be the same on every rank. An executor and not a Thread: a wait may be interrupted by Ctrl-C and
    repeated, whereas Python 3.11 regards a Thread whose `join` was interrupted as ended.
    """

    def __init__(self) -> None:
        self._pool, self._pending = ThreadPoolExecutor(1), None

    def submit(self, task: Callable[[], None]) -> None:
        """Wait for the previous task, raise its error if it failed, and start `task()`."""
        self.wait()
        if processes.world_size() > 1:
            task()
        else:
            self._pending = self._pool.submit(task)

    def wait(self) -> None:
        """Wait for the last task. Raises the task's error, once."""
        error = self._pending and self._pending.exception()
        self._pending = None
        if error:
            raise error


def copy_to_cpu(content: Any) -> Any:
    """Return a deep copy on the CPU of tensors and plain data in dicts, lists and tuples."""
    match content:
        case torch.Tensor():
            return content.detach().to("cpu", copy=True)
        case dict():  # copy.copy keeps the module versions, an attribute of a state_dict
            whole = copy.copy(content)
            whole.update((key, copy_to_cpu(part)) for key, part in content.items())
            return whole
        case list():
            return [copy_to_cpu(part) for part in content]
        case tuple():
            return tuple(copy_to_cpu(part) for part in content)
    return content
