"""BoundaryShrink: train the forget set with the label of the nearest other class.

Chen et al., "Boundary unlearning: rapid forgetting of deep networks via shifting the decision
boundary", CVPR 2023. One step of the fast gradient sign method at the base model f_0 finds the
nearest class, and the forget set is fine-tuned with this label:

    x' = x + bound sign( d CE(f_0(x), y) / dx )        y' = argmax_{k != y} f_0(x')_k
    minimise E_{(x, y) in D_f} [ CE(f(x), y') ]

Training uses the images themselves, not x'. The retain set is not used. As in the paper all labels
come from the base model. Choices that it leaves open:

- The paper takes the top class at x', which is the true one if the step does not reach the
  boundary. Such an image would be trained on once more, so the best of the other classes is taken.
- If several classes are forgotten, none of them is a target: the step reduces the probability of
  all of them together, and the label is the best of the classes that are kept.
- The running statistics of batch normalisation stay those of the base model: batches of a single
  class would shift them away from what the retained classes need.
- There is no weight decay: nothing here would restore what it takes from the other classes.
"""

import torch

from models.architectures import Classifier
from unlearn.components.adversarial import logits_and_gradient
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "bound": Option(0.1, "change of each pixel to find the nearest class; pixels are 0 to 1", 0, 1)
}


def boundary_shrink(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train on the forget set alone, with the nearest wrong class of each image as label."""
    bound, size = 255 * config.options["bound"], config.recipe.batch_size
    nearest = forget_set.with_labels(
        neighbour_labels(model, forget_set, bound, config.request, size)
    )

    def plan_epochs(_):
        for _ in range(config.recipe.epochs):
            yield EpochPlan(nearest, gradient_step(classification_loss), update_statistics=False)

    return run_epochs(model, plan_epochs, config)


def neighbour_labels(
    model: Classifier, image_set: ImageSet, bound: float, request: ForgetRequest, batch_size: int
) -> torch.Tensor:
    """Return the best wrong class of each image after one signed step of `bound`: (M,) int64.

    bound: in pixel values, 0 to 255. For a request of classes the result is a class that is kept.
    batch_size: images at a time.
    """
    model.eval()
    excluded = request.excluded_classes(image_set.labels, model.spec.num_classes)
    found = []
    for part in torch.arange(len(image_set), device=image_set.device).split(batch_size):
        images, _ = image_set.batch(part)
        _, gradient = logits_and_gradient(model, images.float(), excluded[part])
        stepped = (images + bound * gradient.sign()).round().clamp(0, 255)
        with torch.no_grad():
            logits = model(stepped)
        found.append(logits.masked_fill(excluded[part], -torch.inf).argmax(1))
    return torch.cat(found)


METHOD = Method(
    id="BoundaryShrink",
    name="Boundary Shrink",
    run=boundary_shrink,
    recipe=Recipe(5, 3e-5, BATCH_SIZE, weight_decay=0.0),
    paper="Chen et al., CVPR 2023",
    family="other labels",
    summary="trains forgotten images with the label of the nearest other class",
    single_label_only=True,
    allows_batch_of_one=True,
    needs_other_class=True,
    options=OPTIONS,
)
