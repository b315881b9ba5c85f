"""AMUN: train on images that are close to the forget set and that the model misclassifies.

Ebrahimpour-Boroojeny et al., "Not all wrong is bad: using adversarial examples for unlearning",
ICML 2025. Algorithm 1 finds for each image the closest adversarial example: projected gradient
ascent on the loss inside an L2 ball, whose radius is doubled until the prediction changes:

    D_A = { (x', argmax f_0(x')) : (x, y) in D_f, |x' - x|_2 <= epsilon, argmax f_0(x') != y }
    minimise E_{(x, y) in D_r + D_A (+ D_f)} [ CE(f(x), y) ]

The model predicts the wrong labels already, so training on them costs little elsewhere, but it
loses its confidence between x' and x. Choices:

- If several classes are forgotten, an example must be predicted as a class that is kept: the ascent
  reduces the probability of all forgotten classes together.
- The authors' main variant trains on D_r + D_f + D_A, as `keep` = 1 does; without D_f it is the
  variant that their code calls advonly. By default D_f is left out, because a class cannot be
  forgotten while its images are trained on.
- A step is 0.1 epsilon, as in the paper. An image stops at the first step at which it is
  misclassified, because the closest example is wanted; an image that is misclassified from the
  start is its own example. So fewer steps than the paper's 50 are enough.
- Epsilon starts at 0.1, a length over all pixels of range 1; in the authors' code at 0.04, or at
  the median of a sample. In a doubled ball the attack starts again at the image; theirs continues
  from the last point. An image that is classified correctly in the largest ball, too, has no
  example.
- The examples are stored as floats: rounded to whole grey levels, many would be classified
  correctly again.
- The learning rate decreases from epoch to epoch, along a cosine over 3 epochs; in the authors'
  code to a tenth after each of 10.
"""

import torch

from models.architectures import Classifier
from unlearn.components.adversarial import logits_and_gradient
from unlearn.engine.concatenated import ConcatenatedSets
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "steps": Option(20, "steps of the attack in each ball", 1, 1000),
    "keep": Option(0, "1: the forget set is trained on, too, with its own labels", 0, 1),
}
FIRST_EPSILON = 0.1  # of a range of 1
STEP_SIZE = 0.1  # of epsilon


def amun(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train on the retain set and on adversarial examples of the forget set."""
    epochs = config.recipe.epochs
    steps, size = config.options["steps"], config.recipe.batch_size
    adversarial = adversarial_examples(model, forget_set, steps, config.request, size)
    if len(adversarial) == 0:
        raise UserError(
            "no image of the forget set has an adversarial example, because the model predicts one "
            "class for all images: choose another method"
        )
    natural = forget_set.concat(retain_set) if config.options["keep"] else retain_set
    mixed = ConcatenatedSets(natural, adversarial)

    def plan_epochs(_):
        for epoch in range(epochs):
            yield EpochPlan(mixed, gradient_step(classification_loss), cosine_factor(epoch, epochs))

    return run_epochs(model, plan_epochs, config)


def adversarial_examples(
    model: Classifier, image_set: ImageSet, steps: int, request: ForgetRequest, batch_size: int
) -> ImageSet:
    """Return float images, 0 to 255, close to those of `image_set`, with their predicted classes.

    None of the labels is a class that the request forgets. batch_size: images at a time. The order
    is that of `image_set`, without the images for which no example was found.
    """
    model.eval()
    excluded = request.excluded_classes(image_set.labels, model.spec.num_classes)
    found_images, found_labels = [], []
    for part in torch.arange(len(image_set), device=image_set.device).split(batch_size):
        images, labels = image_set.batch(part)
        images, own = images.float(), excluded[part]
        examples, wrong = images.clone(), labels.clone()
        left = torch.arange(len(part), device=part.device)
        epsilon, largest = 255 * FIRST_EPSILON, 255 * images[0].numel() ** 0.5
        while len(left) and epsilon < 2 * largest:
            examples[left], wrong[left] = _attack(model, images[left], own[left], epsilon, steps)
            left = left[_is_excluded(wrong[left], own[left])]
            epsilon *= 2
        found = ~_is_excluded(wrong, own)
        found_images.append(examples[found])
        found_labels.append(wrong[found])
    return ImageSet.from_tensors(torch.cat(found_images), torch.cat(found_labels))


def _attack(model, images, excluded, epsilon, steps):
    """(images, predictions) after up to `steps` steps, or at the first wrong prediction.

    excluded: (B, K) bool, the predictions that do not count as wrong.
    """
    moving = images
    for _ in range(steps):
        logits, gradient = logits_and_gradient(model, moving, excluded)
        still_right = _is_excluded(logits.argmax(1), excluded)[:, None, None, None]
        stepped = moving + STEP_SIZE * epsilon * _unit(gradient)
        change = stepped - images
        change = change * (epsilon / _length(change).clamp(min=epsilon))
        moving = torch.where(still_right, (images + change).clamp(0, 255), moving)
    with torch.no_grad():
        return moving, model(moving).argmax(1)


def _is_excluded(predictions, excluded):
    return excluded.gather(1, predictions[:, None])[:, 0]


def _unit(gradient):
    """Each image's gradient scaled to length 1; that of a confident model nearly vanishes."""
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    scaled = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)
    return scaled / _length(scaled).clamp(min=1)  # at least 1, except for a gradient of zero


def _length(images):
    return torch.linalg.vector_norm(images, dim=(1, 2, 3), keepdim=True)


METHOD = Method(
    id="AMUN",
    name="Adversarial Machine Unlearning",
    run=amun,
    recipe=Recipe(3, 0.01, BATCH_SIZE),
    paper="Ebrahimpour-Boroojeny et al., ICML 2025",
    family="other labels",
    summary="trains on adversarial examples of the forgotten images, with the wrong class that "
    "the model predicts for them",
    single_label_only=True,
    needs_other_class=True,
    options=OPTIONS,
)
