"""Saliency masks: which weights the `_with_SalUn` variant of a method may change."""

from collections.abc import Mapping

import torch


class WeightMask:
    """Which weights an unlearning run may change.

    changeable: for each parameter, by name, a bool tensor of its shape. The running statistics of
    batch normalisation are not weights; they have no saliency and are updated wherever a method
    trains. The others describe where the mask comes from, None if unknown. digest: of the
    percentiles. threshold: the fraction of weights inside. full_threshold: the lowest threshold
    whose mask contains every weight with a gradient. zero_fraction: of all weights, those with a
    saliency of exactly 0.
    """

    def __init__(
        self,
        changeable: Mapping[str, torch.Tensor],
        *,
        digest: str | None = None,
        threshold: float | None = None,
        full_threshold: float | None = None,
        zero_fraction: float | None = None,
    ):
        self.changeable = changeable
        self.digest = digest
        self.threshold = threshold
        self.full_threshold = full_threshold
        self.zero_fraction = zero_fraction

    def record(self) -> dict[str, str | float]:
        """Return what the record of a model unlearned in this mask holds of it, as plain data."""
        found = {
            "mask_digest": self.digest,
            "mask_zero_fraction": self.zero_fraction,
            "mask_full_threshold": self.full_threshold,
        }
        return {key: value for key, value in found.items() if value is not None}

    def fraction(self) -> float:
        """Return the fraction of all weights that may change."""
        changeable = sum(int(part.sum()) for part in self.changeable.values())
        return changeable / sum(part.numel() for part in self.changeable.values())

    def apply_to(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> torch.utils.hooks.RemovableHandle:
        """Restore the weights outside the mask to their current values after each optimizer step.

        Zeroing their gradients would not be enough, because momentum and weight decay also move
        weights without a gradient. Returns a handle whose `remove()` ends this.
        """
        frozen = []
        for name, parameter in model.named_parameters():
            changeable = self.changeable[name].to(parameter.device)
            frozen.append((parameter, changeable, parameter.detach().clone()))

        @torch.no_grad()
        def restore_frozen(*_):
            for parameter, changeable, before in frozen:
                parameter.copy_(torch.where(changeable, parameter, before))

        return optimizer.register_step_post_hook(restore_frozen)
