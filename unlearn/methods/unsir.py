"""UNSIR: impair the model with noise that maximises its error, then repair it.

Tarun et al., "Fast yet effective machine unlearning", IEEE TNNLS 2023. For each class y to forget,
a batch of noise N, drawn from a standard normal distribution, is optimised with the model frozen:

    min_N  -CE(f(N), y) + lambda ||N||^2

Impair: one epoch on the noise with the label y together with a part of the retain set. Repair: one
epoch on the retain set, at half the rate. No image of the forget set is used, only the list of its
classes. Choices:

- N is the input of the network after normalisation, as in the paper, and is not clipped to the
  range of pixels: noise is stored as float images (mean + std N) 255, which normalise to N.
- The squared norm is averaged over the batch, as in the authors' code, which optimises 256 images
  of noise per class with the model in training mode; here it is in evaluation mode.
- The impair pass iterates over the retain images, with half as many noise images in each batch. The
  authors' code uses each noise image 20 times.
- Of a recipe of n epochs the first impairs, and n - 1 repair; a single epoch repairs nothing. One
  SGD does both, with continued momentum, and the repair uses the whole retain set. The authors'
  code has a new Adam for each, at 0.02 and 0.01, and the same fifth of the retain set for both.
- The paper forgets classes. If single images of all classes are forgotten, each of these classes
  gets its noise: all of them are impaired, and the retain set restores all of them, so only what
  the forgotten images alone taught fades.
"""

from collections.abc import Mapping

import torch
from torch.nn import functional

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.engine.pairing import PairedSets, split_pair
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "share": Option(0.5, "fraction of the retain set in the impair pass", 0.01, 1.0),
    "lambda": Option(0.1, "weight of the noise's squared norm"),
    "steps": Option(40, "optimisation steps of the noise"),
    "noise": Option(50, "noise images per class", 1),
}
NOISE_RATE = 0.1  # of Adam, as in the authors' code
REPAIR_RATE = 0.5  # of the impair pass's: 0.01 to 0.02 in the paper


def unsir(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Optimise noise for the forgotten classes, train on it, and repair with retain images."""

    def plan_epochs(generator):
        classes, batch_size = forget_set.labels.unique(), config.recipe.batch_size
        noise = learn_noise(model, classes, config.options, generator, batch_size)
        size = max(2, round(config.options["share"] * len(retain_set)))
        drawn = torch.randperm(len(retain_set), generator=generator)[:size]
        part = retain_set.subset(drawn.to(retain_set.device))
        secondary_size = max(1, batch_size // 2)
        mixed = PairedSets(part, noise, secondary_size, generator)
        yield EpochPlan(mixed, gradient_step(impair))
        for _ in range(config.recipe.epochs - 1):
            yield EpochPlan(retain_set, gradient_step(classification_loss), lr_factor=REPAIR_RATE)

    return run_epochs(model, plan_epochs, config)


def impair(logits: torch.Tensor, labels: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the mean cross entropy of a batch of PairedSets."""
    (retain, true), (noise, given) = split_pair(logits, labels)
    return classification_loss(torch.cat([retain, noise]), torch.cat([true, given]))


def learn_noise(
    model: Classifier,
    classes: torch.Tensor,
    options: Mapping[str, float],
    generator: torch.Generator,
    batch_size: int,
) -> ImageSet:
    """Return float images (classes x noise, C, H, W) that maximise the model's error.

    classes: (n,) int64. batch_size: images at a time. The model is not changed.
    """
    labels = classes.repeat_interleave(options["noise"])
    size = (model.spec.input_size,) * 2
    drawn = torch.randn(len(labels), model.spec.channels, *size, generator=generator)
    noise = drawn.to(labels.device).requires_grad_()
    optimizer = torch.optim.Adam([noise], NOISE_RATE)
    was_training = model.training
    model.eval()
    for _ in range(options["steps"]):
        noise.grad = torch.empty_like(noise)
        for rows in torch.arange(len(labels), device=labels.device).split(batch_size):
            part = noise.detach()[rows].requires_grad_()
            knowledge = -functional.cross_entropy(model(as_images(model, part)), labels[rows])
            loss = knowledge + options["lambda"] * part.square().flatten(1).sum(1).mean()
            loss = loss * (len(rows) / len(labels))
            (noise.grad[rows],) = torch.autograd.grad(
                loss, part
            )  # no gradient for the model's weights
        optimizer.step()
    model.train(was_training)
    return ImageSet.from_tensors(as_images(model, noise.detach()), labels)


def as_images(model: Classifier, noise: torch.Tensor) -> torch.Tensor:
    """Return float images that the Classifier normalises to `noise`."""
    return (model.mean + model.std * noise) * 255


METHOD = Method(
    id="UNSIR",
    name="Impair and Repair",
    run=unsir,
    recipe=Recipe(2, 0.01, BATCH_SIZE, optimizer="sgd"),
    paper="Tarun et al., TNNLS 2023",
    family="noise",
    summary="learns noise that maximises the error of the classes, impairs the model with it, "
    "repairs it with retain images",
    single_label_only=True,
    options=OPTIONS,
)
