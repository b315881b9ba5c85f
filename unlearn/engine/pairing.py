"""Trains on two image sets at once: each batch of one is combined with a batch of the other."""

import torch

from utils.data.datasets import CompositeSet, ImageSet
from utils.train.training import shuffled_batches


class PairedSets(CompositeSet):
    """Batches of a primary set, each combined with the next batch of a secondary set.

    One pass over the primary set is an epoch. The secondary set is repeated as often as needed,
    in a new random order each time. secondary_size: images per batch of the secondary set, which
    are all of it if it is smaller. generator: torch.Generator (CPU) of these orders. The sets may
    have different storages.
    """

    def __init__(
        self,
        primary: ImageSet,
        secondary: ImageSet,
        secondary_size: int,
        generator: torch.Generator,
    ):
        self.primary, self.secondary = primary, secondary
        self._secondary_size, self._generator = min(secondary_size, len(secondary)), generator
        self._pending = []  # batches of positions, the rest of the secondary set's current order

    def __len__(self) -> int:
        return len(self.primary)

    @property
    def parts(self) -> tuple[ImageSet, ImageSet]:
        """The primary and the secondary set."""
        return self.primary, self.secondary

    def batch_parts(self, positions: torch.Tensor) -> list[tuple[ImageSet, torch.Tensor]]:
        """Return `positions` of the primary set and the next batch of the secondary set.

        Each call takes a batch from the secondary set, so it must be used exactly once.
        """
        return [(self.primary, positions), (self.secondary, self._next_secondary_positions())]

    def collate(
        self, pieces: list[tuple[torch.Tensor, torch.Tensor]], positions: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return images (B + S, C, H, W), the primary ones first, and the labels of both sets."""
        images, labels = zip(*pieces, strict=True)
        return torch.cat(images), labels

    def state(self) -> list[torch.Tensor]:
        """Return the position in the secondary set; the generator's state is not included."""
        return list(self._pending)

    def restore(self, state: list[torch.Tensor]) -> None:
        """Continue from the `state` of the same pair of sets."""
        self._pending = [positions.to(self._position_device) for positions in state]

    @property
    def _position_device(self):
        """Reading threads need positions on the CPU, the storage needs them on its device."""
        return "cpu" if self.workers else self.device

    def _next_secondary_positions(self):
        if not self._pending:
            self._pending = shuffled_batches(
                len(self.secondary), self._secondary_size, self._generator, self._position_device
            )
        return self._pending.pop(0)


def split_pair(
    logits: torch.Tensor, labels: tuple[torch.Tensor, torch.Tensor]
) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Return ((logits, labels) of the primary set, (logits, labels) of the secondary set)."""
    parts = logits.split([len(part) for part in labels])
    return tuple(zip(parts, labels, strict=True))
