"""UNSIR: impair the model with noise that it errs on most, then repair it.

Tarun et al., "Fast yet effective machine unlearning", IEEE TNNLS 2023. For each class y to be
forgotten a batch of noise N, drawn from a standard normal, is learned with the model frozen:

    min_N  -CE(f(N), y) + lambda ||N||^2

Impair: one epoch on the noise under the label y together with a part of the retain set. Repair:
one epoch on the retain set, at half the rate. No image of the forget set is looked at, only
which classes it has. Choices:

- N is what the network is given after normalisation, as in the paper, and is not cut to the range
  of pixels: noise is stored as float images (mean + std N) 255, which normalise to N.
- The square of the norm is taken and its mean over the batch, as in the authors' code, which learns
  256 images of noise a class, with the model in training mode; here it is in evaluation mode.
- The impair pass is led by the retain images, half as many of noise beside each batch. The authors'
  code mixes each image of noise in 20 times.
- Of a recipe of n epochs the first impairs, and n - 1 repair; with one alone nothing is repaired.
  One SGD does both, whose momentum goes on, and the repair has the whole retain set. The authors'
  code has a fresh Adam for each, at 0.02 and 0.01, and the same fifth of the retain set for both.
- The paper forgets classes. Where single images of all classes are to be forgotten, each of these
  classes gets its noise: all of them are impaired, and the retain set brings all of them back,
  so what fades is what only the forgotten images taught.
"""

import torch
from torch.nn import functional

from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.engine.pairing import PairedSets, split_pair
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "share": Option(0.5, "share of the retain set in the impair pass", 0.01, 1.0),
    "lambda": Option(0.1, "weight of the noise's squared norm"),
    "steps": Option(40, "steps in which the noise is learned"),
    "noise": Option(50, "images of noise for each class", 1),
}
NOISE_RATE = 0.1  # Adam's, as in the authors' code
REPAIR_RATE = 0.5  # of the impair pass's: 0.01 to 0.02 in the paper


def unsir(model, forget_set, retain_set, config):
    """Learn noise for the forgotten classes, train on it, and mend with retain images."""

    def passes(generator):
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

    return run_epochs(model, passes, config)


def impair(logits, labels):
    """Cross entropy, the mean over the images of a PairedSets."""
    (retain, true), (noise, given) = split_pair(logits, labels)
    return classification_loss(torch.cat([retain, noise]), torch.cat([true, given]))


def learn_noise(model, classes, options, generator, batch_size):
    """An ImageSet of float images (classes x noise, C, H, W) that the model errs on most.

    classes: (n,) int64. batch_size: images at a time. The model is left as it was.
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
            (noise.grad[rows],) = torch.autograd.grad(loss, part)  # none for the model's weights
        optimizer.step()
    model.train(was_training)
    return ImageSet.from_tensors(as_images(model, noise.detach()), labels)


def as_images(model, noise):
    """Float images that the Classifier normalises to `noise`."""
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
