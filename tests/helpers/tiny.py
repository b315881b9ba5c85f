"""Tiny image sets and networks, which a test can train in milliseconds."""

import functools

import torch
from torch import nn

from models.architectures import Classifier, ModelSpec
from utils.data.datasets import MULTI_CLASS, MULTI_LABEL, ImageSet, MedicalDataset
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

SIZE = 8  # pixels
NUM_CLASSES = 4


def tiny_set(count=24, num_classes=NUM_CLASSES, *, channels=1, multi_label=False, seed=0):
    """Return an ImageSet of noise with a bright row for each class; no class is empty."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, SIZE, SIZE)
    images = torch.randint(0, 120, shape, generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % num_classes
    if multi_label:
        positive = torch.rand(count, num_classes, generator=generator) < 0.3
        labels = (positive | (torch.arange(num_classes) == labels[:, None])).long()
    for number in range(num_classes):
        members = labels[:, number].bool() if multi_label else labels == number
        images[members, :, number] += 100
    return ImageSet.from_tensors(images, labels)


def tiny_dataset(num_classes=NUM_CLASSES, *, multi_label=False, names=None, train=24):
    """Return a MedicalDataset of tiny sets."""
    sizes = {"train": train, "val": 2 * num_classes, "test": 3 * num_classes}
    splits = {
        split: tiny_set(count, num_classes, multi_label=multi_label, seed=seed)
        for seed, (split, count) in enumerate(sizes.items())
    }
    names = tuple(names or (f"tissue {letter}" for letter in "abcdefghij"[:num_classes]))
    return MedicalDataset("Tiny", MULTI_LABEL if multi_label else MULTI_CLASS, names, **splits)


def tiny_model(num_classes=NUM_CLASSES, *, channels=1, dropout=0.0, seed=0):
    """Return a Classifier with convolution, batch normalization, dropout and a linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((SIZE, 1)),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(6 * SIZE, num_classes),
        )
    return Classifier(network, ModelSpec("tiny", num_classes, channels, SIZE))


def trained_model(*, multi_label=False, dropout=0.0):
    """Return a trained tiny_model, used as the base model of unlearning methods."""
    model = tiny_model(dropout=dropout)
    model.load_state_dict(_trained_weights(multi_label))
    return model


@functools.cache
def _trained_weights(multi_label):
    model = tiny_model()
    sets = (tiny_set(120, multi_label=multi_label, seed=seed) for seed in (0, 1))
    TrainingRun(model, *sets, Recipe(12, 0.05, 10)).run(show=False)
    return weights_of(model)


def split_set(request, image_set):
    """Return (forget_set, retain_set) of a request for classes."""
    forgotten = request.has_requested_class(image_set.labels)
    return image_set.subset(forgotten), image_set.subset(~forgotten)


def weights_of(model):
    """Return a copy of all weights and running statistics."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_weights(first, second):
    """Return whether two state_dicts, or models, are bitwise identical."""
    first, second = (
        part.state_dict() if isinstance(part, nn.Module) else part for part in (first, second)
    )
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
