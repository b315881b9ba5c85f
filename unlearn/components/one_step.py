"""What the methods that work in one step share at their end."""

import torch

from utils.runtime.errors import UserError


@torch.inference_mode()
def finished(model, image_set, batch_size):
    """The model, in evaluation mode. Raises UserError if its weights or answers are not finite.

    Asked about a batch of `image_set`; weights may be finite and still too large to answer with.
    """
    some = torch.arange(min(batch_size, len(image_set)), device=image_set.device)
    answers = model.eval()(image_set.batch(some)[0])
    if not all(tensor.isfinite().all() for tensor in [answers, *model.parameters()]):
        raise UserError(
            "the model's weights or answers are not finite after the step: this model was not "
            "saved; ask for a smaller step by --unlearn_options"
        )
    return model
