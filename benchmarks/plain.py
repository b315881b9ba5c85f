"""The loops that people write first: one image at a time, a number back at every step.

They compute what the toolkit computes and are kept to be timed beside it (bench.py).
"""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from torchvision import transforms

BATCH_SIZE = 50  # images
METHODS = ("RL", "FT", "GA", "RL_with_SalUn")  # that there is a plain loop of
THRESHOLDS = [percent / 100 for percent in range(10, 101, 10)]


class PlainImages(Dataset):
    """Images (N, H, W, C) or (N, H, W) uint8 as pictures, each transformed when asked for."""

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


def load(path):
    """Train and test split of a .npz file."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return (
        PlainImages(arrays[f"{split}_images"], arrays[f"{split}_labels"].reshape(-1))
        for split in ("train", "test")
    )


def training_epoch(network, dataset, device, lr=0.01):
    """An epoch in float32: (sum of the losses, images that were right)."""
    return _epoch(network, DataLoader(dataset, BATCH_SIZE, shuffle=True), device, lr)


def unlearning_epoch(method, network, forget, retain, num_classes, device, masks=None, lr=0.01):
    """An epoch of one of METHODS. forget, retain: PlainImages. masks: int64 by parameter name."""
    if method == "GA":
        return _epoch(network, DataLoader(forget, BATCH_SIZE, shuffle=True), device, -lr)
    images = retain
    if method.startswith("RL"):
        shift = np.random.default_rng().integers(1, num_classes, len(forget))
        wrong = PlainImages(forget.images, (forget.labels + shift) % num_classes)
        images = ConcatDataset([wrong, retain])
    return _epoch(network, DataLoader(images, BATCH_SIZE, shuffle=True), device, lr, masks)


def _epoch(network, loader, device, lr, masks=None):
    """lr: below 0 to climb. masks: what a weight's gradient is multiplied by."""
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


def split(dataset, number):
    """PlainImages (of class `number`, of the others)."""
    covered = dataset.labels == number
    return [PlainImages(dataset.images[part], dataset.labels[part]) for part in (covered, ~covered)]


def as_dict(mask, network):
    """A WeightMask as int64 ones and zeros by parameter name."""
    parts = zip(network.named_parameters(), mask.changeable.values(), strict=True)
    return {name: part.long().to(parameter.device) for (name, parameter), part in parts}


@torch.no_grad()
def predict(network, dataset, device):
    """Predicted classes, a list, batch by batch."""
    network.eval()
    predicted = []
    for images, _ in DataLoader(dataset, BATCH_SIZE):
        predicted += network(images.to(device)).argmax(1).tolist()
    return predicted


@torch.no_grad()
def evaluate(network, datasets, forgotten, device):
    """Accuracy in percent of the class `forgotten` and of the others in each, image by image."""
    network.eval()
    accuracies = []
    for dataset in datasets:
        right = {True: [], False: []}
        for index in range(len(dataset)):
            image, label = dataset[index]
            predicted = network(image[None].to(device)).argmax(1).item()
            right[label == forgotten].append(predicted == label)
        accuracies += [100 * np.mean(part) for part in right.values()]
    return accuracies


def all_masks(network, dataset, num_classes, device, folder):
    """For each class and threshold a file of int64 masks: two argsorts a threshold."""
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
