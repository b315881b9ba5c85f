"""AMUN: learn the images that lie close to the forget set and that the model gets wrong already.

Ebrahimpour-Boroojeny et al., "Not all wrong is bad: using adversarial examples for unlearning",
ICML 2025. Algorithm 1 finds for each image the closest adversarial example: projected gradient
ascent of the loss inside an L2 ball, which is doubled until the prediction is another:

    D_A = { (x', argmax f_0(x')) : (x, y) in D_f, |x' - x|_2 <= epsilon, argmax f_0(x') != y }
    minimise E_{(x, y) in D_r + D_A (+ D_f)} [ CE(f(x), y) ]

The model believes the wrong labels already, so that learning them costs it little elsewhere, but it
loses its confidence between x' and x. Choices:

- Where several classes are to be forgotten, an example has to be taken for one that is kept: the
  ascent leads away from all of them together.
- The authors' main variant trains on D_r + D_f + D_A, as `keep` = 1 does; without D_f it is what
  their code calls advonly. By default D_f is left out, because a class cannot be forgotten while
  its images are being learned.
- A step is 0.1 epsilon, as in the paper. An image stops at the first step at which it is wrong,
  because the closest example is asked for; one that is wrong from the start is its own example.
  So fewer steps than the paper's 50 do.
- Epsilon begins at 0.1, a length over all pixels of a range of 1; in the authors' code at 0.04, or
  at the median of a sample's. In a doubled ball the attack begins anew at the image; theirs goes on
  from where it was. An image that no change within the largest ball gets wrong has no example.
- The examples are kept as floats: rounded to whole grey levels, many would be right again.
- The rate falls from epoch to epoch, by a cosine over 3; in the authors' code to a tenth after each
  of 10.
"""

import torch

from unlearn.components.adversarial import logits_and_gradient
from unlearn.engine.concatenated import ConcatenatedSets
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "steps": Option(20, "steps of the attack in each ball", 1, 1000),
    "keep": Option(0, "1: the forget set is trained on as well, under its labels", 0, 1),
}
FIRST_EPSILON = 0.1  # of a range of 1
STEP_SHARE = 0.1  # of epsilon


def amun(model, forget_set, retain_set, config):
    """Train on the retain set and on adversarial examples of the forget set."""
    epochs = config.recipe.epochs
    steps, size = config.options["steps"], config.recipe.batch_size
    adversarial = adversarial_examples(model, forget_set, steps, config.request, size)
    if len(adversarial) == 0:
        raise UserError(
            "no image to forget has an adversarial example: the model gives all images one class; "
            "choose another method"
        )
    natural = forget_set.concat(retain_set) if config.options["keep"] else retain_set
    mixed = ConcatenatedSets(natural, adversarial)

    def passes(_):
        for epoch in range(epochs):
            yield EpochPlan(mixed, gradient_step(classification_loss), cosine_factor(epoch, epochs))

    return run_epochs(model, passes, config)


def adversarial_examples(model, image_set, steps, request, batch_size):
    """An ImageSet of float images, 0 to 255, close to those of `image_set`, and the model's labels.

    None of the labels is a class that the request forgets. batch_size: images at a time.
    In the order of `image_set`, less those for which there is none.
    """
    model.eval()
    found_images, found_labels = [], []
    for part in torch.arange(len(image_set), device=image_set.device).split(batch_size):
        images, labels = image_set.batch(part)
        images, barred = images.float(), request.excluded_classes(labels, model.spec.num_classes)
        examples, wrong = images.clone(), labels.clone()
        left = torch.arange(len(part), device=part.device)
        epsilon, largest = 255 * FIRST_EPSILON, 255 * images[0].numel() ** 0.5
        while len(left) and epsilon < 2 * largest:
            examples[left], wrong[left] = _attack(model, images[left], barred[left], epsilon, steps)
            left = left[_is_barred(wrong[left], barred[left])]
            epsilon *= 2
        found = ~_is_barred(wrong, barred)
        found_images.append(examples[found])
        found_labels.append(wrong[found])
    return ImageSet.from_tensors(torch.cat(found_images), torch.cat(found_labels))


def _attack(model, images, barred, epsilon, steps):
    """(images, predictions) after up to `steps` steps, or at the first that is predicted wrong.

    barred: (B, K) bool, the predictions that are not wrong, or of no use.
    """
    moving = images
    for _ in range(steps):
        logits, gradient = logits_and_gradient(model, moving, barred)
        still_right = _is_barred(logits.argmax(1), barred)[:, None, None, None]
        stepped = moving + STEP_SHARE * epsilon * _unit(gradient)
        change = stepped - images
        change = change * (epsilon / _length(change).clamp(min=epsilon))
        moving = torch.where(still_right, (images + change).clamp(0, 255), moving)
    with torch.no_grad():
        return moving, model(moving).argmax(1)


def _is_barred(predictions, barred):
    return barred.gather(1, predictions[:, None])[:, 0]


def _unit(gradient):
    """Each image's gradient at length 1, however small it is: a sure model's nearly vanishes."""
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    scaled = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)
    return scaled / _length(scaled).clamp(min=1)  # 1 at least, but for a gradient of zero


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
