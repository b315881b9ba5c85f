"""Weights that must not move: what `_with_SalUn` adds to any gradient method."""

import torch


class WeightMask:
    """Which weights may change: one bool tensor for each of the model's parameters, by name.

    The running statistics of batch normalisation are no weights, have no gradient and no saliency,
    and go on being measured wherever a method trains.
    """

    def __init__(self, changeable, digest=None):
        self.changeable = changeable
        self.digest = digest  # of the percents that it was made of, for the model's record

    def share(self):
        """Share of all weights that may change, 0 to 1."""
        kept = sum(int(part.sum()) for part in self.changeable.values())
        return kept / sum(part.numel() for part in self.changeable.values())

    def protect(self, model, optimizer):
        """From now on each step of `optimizer` leaves weights outside the mask as they are now.

        They are put back after the step instead of having their gradient zeroed, because momentum
        and weight decay move weights that have no gradient. Returns a handle with `remove()`.
        """
        kept = []
        for name, parameter in model.named_parameters():
            changeable = self.changeable[name].to(parameter.device)
            kept.append((parameter, changeable, parameter.detach().clone()))

        @torch.no_grad()
        def put_back(*_):
            for parameter, changeable, before in kept:
                parameter.copy_(torch.where(changeable, parameter, before))

        return optimizer.register_step_post_hook(put_back)
