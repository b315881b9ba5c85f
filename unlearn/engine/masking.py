"""Saliency masks: which weights the `_with_SalUn` variant of a method may change."""

from collections.abc import Mapping

import torch


class WeightMask:
    """Which weights an unlearning run may change.

    changeable: for each parameter, by name, a bool tensor of its shape. digest: of the percentiles
    that the mask was computed from, for the model's record. The running statistics of batch
    normalisation are not weights; they have no saliency and are updated wherever a method trains.
    """

    def __init__(self, changeable: Mapping[str, torch.Tensor], digest: str | None = None):
        self.changeable = changeable
        self.digest = digest

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
