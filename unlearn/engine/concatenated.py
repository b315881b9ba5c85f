"""Two sets shuffled together that look into different storages."""

from dataclasses import dataclass

import torch

from utils.data.datasets import CompositeSet, ImageSet


@dataclass(frozen=True)
class ConcatenatedSets(CompositeSet):
    """The images of `first`, then those of `second`, as one epoch's images.

    Neither may be empty. Pixels are floats if those of one of them are.
    """

    first: ImageSet
    second: ImageSet

    def __len__(self):
        return len(self.first) + len(self.second)

    @property
    def parts(self):
        return self.first, self.second

    def batch_parts(self, positions):
        """Both sets are asked for every position and the wrong answers dropped.

        So that a GPU need not tell how many positions are whose.
        """
        border = len(self.first)
        return [
            (self.first, positions.clamp(max=border - 1)),
            (self.second, (positions - border).clamp(min=0)),
        ]

    def collate(self, pieces, positions):
        (images, labels), (others, other_labels) = pieces
        is_rank_zero = positions < len(self.first)
        return (
            torch.where(is_rank_zero[:, None, None, None], images, others),
            torch.where(is_rank_zero, labels, other_labels),
        )
