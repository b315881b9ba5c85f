"""BoundaryShrink: give each image to be forgotten the class that lies nearest behind its boundary.

Chen et al., "Boundary unlearning: rapid forgetting of deep networks via shifting the decision
boundary", CVPR 2023. One step of the fast gradient sign method leads towards the neighbour, at the
base model f_0, and the forget set is fine-tuned under the label that is found there:

    x' = x + bound sign( d CE(f_0(x), y) / dx )        y' = argmax_{k != y} f_0(x')_k
    minimise E_{(x, y) in D_f} [ CE(f(x), y') ]

The images themselves are trained on, not x', and the retain set is not looked at. As in the paper
all labels come from the base model. Choices that it leaves open:

- It takes the top class at x', which is the true one where the step does not reach the boundary.
  Such an image would be learned once more, so the best of the other classes is taken.
- Where several classes are to be forgotten, none of them is anybody's neighbour: the step leads
  away from all of them together, to the best of the classes that are kept.
- The running statistics of batch normalisation stay the base model's: batches of a single class
  would pull them away from what the retained classes need.
- There is no weight decay: nothing here would make up for what it takes from the other classes.
"""

import torch

from unlearn.components.adversarial import logits_and_gradient
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "bound": Option(0.1, "how far each pixel steps to find the neighbour, of a range of 1", 0, 1)
}


def boundary_shrink(model, forget_set, retain_set, config):
    """Train on the forget set alone, each image under its nearest wrong class."""
    bound, size = 255 * config.options["bound"], config.recipe.batch_size
    nearest = forget_set.with_labels(
        neighbour_labels(model, forget_set, bound, config.request, size)
    )

    def passes(_):
        for _ in range(config.recipe.epochs):
            yield EpochPlan(nearest, gradient_step(classification_loss), update_statistics=False)

    return run_epochs(model, passes, config)


def neighbour_labels(model, image_set, bound, request, batch_size):
    """The best wrong class of each image one signed step of `bound` (of 255) away: (M,) int64.

    Of a request for classes one that is kept. batch_size: images at a time.
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
