"""Work beside the work: what a run leaves in a file for its resumption need not be waited for."""

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
        self._thread = threading.Thread(target=self._try, args=(work,))
        self._thread.start()

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
        case dict():
            return {key: copied(part) for key, part in content.items()}
        case list() | tuple():
            return [copied(part) for part in content]
    return content
