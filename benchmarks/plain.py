"""Plain loops: PIL transforms per image, `.item()` at each step.

They compute the same as the toolkit, and bench.py times both.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from torchvision import transforms

from unlearn.saliency import WeightMask

BATCH_SIZE = 50  # images
METHODS = ("RL", "FT", "GA", "RL_with_SalUn")  # with a plain loop
THRESHOLDS = [percent / 100 for percent in range(10, 101, 10)]


class PlainImages(Dataset):
    """Images (N, H, W, C) or (N, H, W) uint8, each transformed when it is read."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        half = [0.5] * (images.shape[3] if images.ndim == 4 else 1)
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(half, half)]
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def load(path: Path) -> "Iterator[PlainImages]":
    """Return the train and the test split of a .npz file."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return (
        PlainImages(arrays[f"{split}_images"], arrays[f"{split}_labels"].reshape(-1))
        for split in ("train", "test")
    )


def training_epoch(
    network: nn.Module, dataset: Dataset, device: torch.device, lr: float = 0.01
) -> tuple[float, int]:
    """Train one epoch in float32: (sum of the losses, number of correct images)."""
    return _epoch(network, DataLoader(dataset, BATCH_SIZE, shuffle=True), device, lr)


def unlearning_epoch(
    method: str,
    network: nn.Module,
    forget: PlainImages,
    retain: PlainImages,
    num_classes: int,
    device: torch.device,
    masks: dict[str, torch.Tensor] | None = None,
    lr: float = 0.01,
) -> tuple[float, int]:
    """Run one epoch of one of METHODS. masks: int64 by parameter name."""
    if method == "GA":
        return _epoch(network, DataLoader(forget, BATCH_SIZE, shuffle=True), device, -lr)
    images = retain
    if method.startswith("RL"):
        shift = np.random.default_rng().integers(1, num_classes, len(forget))
        wrong = PlainImages(forget.images, (forget.labels + shift) % num_classes)
        images = ConcatDataset([wrong, retain])
    return _epoch(network, DataLoader(images, BATCH_SIZE, shuffle=True), device, lr, masks)


def _epoch(network, loader, device, lr, masks=None):
    """lr: negative for gradient ascent. masks: factors of the gradients."""
    optimizer = torch.optim.SGD(network.parameters(), abs(lr), momentum=0.9, nesterov=True)
    network.train()
    total, correct = 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = network(images)
        loss = functional.cross_entropy(logits, labels)
        (loss if lr > 0 else -loss).backward()
        if masks:
            for name, parameter in network.named_parameters():
                parameter.grad *= masks[name]
        optimizer.step()
        total += loss.item()
        correct += (logits.argmax(1) == labels).sum().item()
    return total, correct


def split(dataset: PlainImages, number: int) -> list[PlainImages]:
    """Return the images of class `number`, and the others."""
    covered = dataset.labels == number
    return [PlainImages(dataset.images[part], dataset.labels[part]) for part in (covered, ~covered)]


def mask_to_dict(mask: WeightMask, network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a WeightMask as int64 ones and zeros by parameter name."""
    parts = zip(network.named_parameters(), mask.changeable.values(), strict=True)
    return {name: part.long().to(parameter.device) for (name, parameter), part in parts}


@torch.no_grad()
def predict(network: nn.Module, dataset: Dataset, device: torch.device) -> list[int]:
    """Return the predicted classes, computed in batches."""
    network.eval()
    predicted = []
    for images, _ in DataLoader(dataset, BATCH_SIZE):
        predicted += network(images.to(device)).argmax(1).tolist()
    return predicted


@torch.no_grad()
def evaluate(
    network: nn.Module, datasets: list[PlainImages], forgotten: int, device: torch.device
) -> list[float]:
    """Return the accuracy in percent of the forgotten class and of the others, per data set."""
    network.eval()
    accuracies = []
    for dataset in datasets:
        correct = {True: [], False: []}
        for index in range(len(dataset)):
            image, label = dataset[index]
            predicted = network(image[None].to(device)).argmax(1).item()
            correct[label == forgotten].append(predicted == label)
        accuracies += [100 * np.mean(part) for part in correct.values()]
    return accuracies


def all_masks(
    network: nn.Module,
    dataset: PlainImages,
    num_classes: int,
    device: torch.device,
    folder: Path,
) -> None:
    """Write a file of int64 masks per class and threshold, with two argsorts per threshold."""
    network.eval()
    for number in range(num_classes):
        members = np.flatnonzero(np.asarray(dataset.labels) == number)
        saliency = {name: 0 for name, _ in network.named_parameters()}
        for images, labels in DataLoader(Subset(dataset, members), BATCH_SIZE):
            network.zero_grad()
            loss = functional.cross_entropy(network(images.to(device)), labels.to(device))
            (loss * len(labels)).backward()
            for name, parameter in network.named_parameters():
                saliency[name] = saliency[name] + parameter.grad
        for threshold in THRESHOLDS:
            flat = -torch.cat([part.abs().flatten() for part in saliency.values()])
            ranks = torch.argsort(torch.argsort(flat))
            flags = (ranks < threshold * len(flat)).long()
            parts = flags.split([part.numel() for part in saliency.values()])
            mask = {
                name: part.reshape(saliency[name].shape)
                for name, part in zip(saliency, parts, strict=True)
            }
            torch.save(mask, folder / f"class_{number}_{threshold}.pt")
    network.zero_grad()
