"""Work beside the work: what a run leaves in a file for its resumption need not be waited for."""

import copy
import threading

import torch

from utils import processes


class Background:
    """Does one thing at a time in a thread of its own.

    Processes that work together do it at once instead: what they tell each other has an order.
    """

    def __init__(self):
        self._thread = self._error = None

    def do(self, work):
        """Begin `work()` once the one before has ended, whose error, if it had one, is raised."""
        self.finish()
        if processes.count() > 1:
            work()
            return
        thread = threading.Thread(target=self._try, args=(work,))
        thread.start()  # Ctrl-C in here leaves nothing behind that cannot be waited for
        self._thread = thread

    def finish(self):
        """Wait for what was begun last. Raises what it raised."""
        if self._thread:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error:
            raise error

    def _try(self, work):
        try:
            work()
        except BaseException as error:
            self._error = error


def copied(content):
    """Plain data and tensors, nested in dicts, lists and tuples, as they are now, on the CPU."""
    match content:
        case torch.Tensor():
            return content.detach().to("cpu", copy=True)
        case dict():  # a state_dict tells the versions of its modules beside what it holds
            whole = copy.copy(content)
            whole.update((key, copied(part)) for key, part in content.items())
            return whole
        case list():
            return [copied(part) for part in content]
        case tuple():
            return tuple(copied(part) for part in content)
    return content
