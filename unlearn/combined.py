"""Two sets shuffled together that look into different storages."""

from dataclasses import dataclass

import torch

from utils.datasets import ImageSet


@dataclass(frozen=True)
class Combined:
    """The images of `first`, then those of `second`, as one epoch's images.

    Neither may be empty. Pixels are floats if those of one of them are.
    """

    first: ImageSet
    second: ImageSet

    def __len__(self):
        return len(self.first) + len(self.second)

    @property
    def device(self):
        return self.first.device

    def batch(self, positions):
        """Images (B, C, H, W) and labels at `positions`, (B,) int64 or a slice.

        Both sets are asked for every position and the wrong answers dropped, so that a GPU need
        not tell how many positions are whose.
        """
        if isinstance(positions, slice):
            positions = torch.arange(len(self), device=self.device)[positions]
        border = len(self.first)
        images, labels = self.first.batch(positions.clamp(max=border - 1))
        others, other_labels = self.second.batch((positions - border).clamp(min=0))
        is_first = positions < border
        return (
            torch.where(is_first[:, None, None, None], images, others),
            torch.where(is_first, labels, other_labels),
        )
