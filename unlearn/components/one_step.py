"""The check at the end of methods that work in one step."""

import torch

from models.architectures import Classifier
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError


@torch.inference_mode()
def require_finite(model: Classifier, image_set: ImageSet, batch_size: int) -> Classifier:
    """Return the model in evaluation mode, if its weights and outputs are finite.

    The outputs are those for a batch of `image_set`: weights may be finite and still so large that
    outputs are not. Raises UserError otherwise.
    """
    some = torch.arange(min(batch_size, len(image_set)), device=image_set.device)
    logits = model.eval()(image_set.batch(some)[0])
    if not all(tensor.isfinite().all() for tensor in [logits, *model.parameters()]):
        raise UserError(
            "the model's weights or outputs are not finite after the step: this model was not "
            "saved; choose a smaller step with --unlearn_options"
        )
    return model
