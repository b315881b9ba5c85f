"""Two sets gone through side by side: a batch of one beside each batch of the other."""

import torch

from utils.data.datasets import CompositeSet, ImageSet
from utils.train.training import shuffled_batches


class PairedSets(CompositeSet):
    """`lead` as an epoch's images, and beside each batch of it the next batch of `side`.

    `side` is gone through again and again, each time in a fresh order, `secondary_size` images at a
    time, or all of it where it is smaller. The two may look into different storages.
    """

    def __init__(self, lead: ImageSet, side: ImageSet, secondary_size, generator):
        self.primary, self.secondary = lead, side
        self._secondary_size, self._generator = min(secondary_size, len(side)), generator
        self._to_come = []  # batches of positions in the side, of the order that is gone through

    def __len__(self):
        return len(self.primary)

    @property
    def parts(self):
        return self.primary, self.secondary

    def batch_parts(self, positions):
        """Positions in the lead, and the side's next ones: each plan is to be followed once."""
        return [(self.primary, positions), (self.secondary, self._next_secondary_positions())]

    def collate(self, pieces, positions):
        """Images (B + S, C, H, W), those of `lead` first, and both labels as a pair."""
        images, labels = zip(*pieces, strict=True)
        return torch.cat(images), labels

    def state(self):
        """How far the side has been gone through, as plain data; the generator's state apart."""
        return list(self._to_come)

    def restore(self, state):
        """Go on from the `state` of a pair of the same sets."""
        self._to_come = [positions.to(self._where) for positions in state]

    @property
    def _where(self):
        """Where positions are needed: by the threads that read ahead, or by the device."""
        return "cpu" if self.workers else self.device

    def _next_secondary_positions(self):
        if not self._to_come:
            self._to_come = shuffled_batches(
                len(self.secondary), self._secondary_size, self._generator, self._where
            )
        return self._to_come.pop(0)


def split_pair(logits, labels):
    """Return ((logits, labels) of the primary set, (logits, labels) of the secondary set)."""
    parts = logits.split([len(part) for part in labels])
    return tuple(zip(parts, labels, strict=True))
