"""Two sets gone through side by side: a batch of one beside each batch of the other."""

import torch

from utils.datasets import ImageSet
from utils.training import batches


class Paired:
    """`lead` as an epoch's images, and beside each batch of it the next batch of `side`.

    `side` is gone through again and again, each time in a fresh order, `side_size` images at a
    time, or all of it where it is smaller. The two may look into different storages.
    """

    def __init__(self, lead: ImageSet, side: ImageSet, side_size, generator):
        self.lead, self.side = lead, side
        self._side_size, self._generator = min(side_size, len(side)), generator
        self._to_come = []  # batches of positions in the side, of the order that is gone through

    def __len__(self):
        return len(self.lead)

    @property
    def device(self):
        return self.lead.device

    def batch(self, positions):
        """Images (B + S, C, H, W) uint8, those of `lead` first, and both labels as a pair."""
        images, labels = self.lead.batch(positions)
        side_images, side_labels = self.side.batch(self._next_of_side())
        return torch.cat([images, side_images]), (labels, side_labels)

    def state(self):
        """How far the side has been gone through, as plain data; the generator's state apart."""
        return list(self._to_come)

    def restore(self, state):
        """Go on from the `state` of a pair of the same sets."""
        self._to_come = [positions.to(self.side.device) for positions in state]

    def _next_of_side(self):
        if not self._to_come:
            self._to_come = batches(
                len(self.side), self._side_size, self._generator, self.side.device
            )
        return self._to_come.pop(0)


def split_pair(logits, labels):
    """(logits, labels) of the lead and (logits, labels) of the side, from a batch of a Paired."""
    parts = logits.split([len(part) for part in labels])
    return tuple(zip(parts, labels, strict=True))
