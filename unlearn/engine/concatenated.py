"""Concatenates two image sets that have different storages."""

from dataclasses import dataclass

import torch

from utils.data.datasets import CompositeSet, ImageSet


@dataclass(frozen=True)
class ConcatenatedSets(CompositeSet):
    """The images of `first` followed by those of `second`, to be shuffled together.

    Neither set may be empty. Pixels are floats if those of either set are.
    """

    first: ImageSet
    second: ImageSet

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def parts(self) -> tuple[ImageSet, ImageSet]:
        """The two sets."""
        return self.first, self.second

    def batch_parts(self, positions: torch.Tensor) -> list[tuple[ImageSet, torch.Tensor]]:
        """Return clamped positions of both sets: `collate` selects the right images.

        Splitting the positions instead would make the CPU wait for a GPU to count them.
        """
        offset = len(self.first)
        return [
            (self.first, positions.clamp(max=offset - 1)),
            (self.second, (positions - offset).clamp(min=0)),
        ]

    def collate(
        self, pieces: list[tuple[torch.Tensor, torch.Tensor]], positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, H, W) and labels (B,), each from the set of its position."""
        (images, labels), (other_images, other_labels) = pieces
        is_first = positions < len(self.first)
        return (
            torch.where(is_first[:, None, None, None], images, other_images),
            torch.where(is_first, labels, other_labels),
        )
