"""The loops that people write first: one image at a time, a number back at every step.

They compute what the toolkit computes and are kept to be timed beside it (bench.py).
"""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms

BATCH_SIZE = 50  # images
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
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9, nesterov=True)
    network.train()
    total, correct = 0.0, 0
    for images, labels in DataLoader(dataset, BATCH_SIZE, shuffle=True):
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = network(images)
        loss = functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
        correct += (logits.argmax(1) == labels).sum().item()
    return total, correct


@torch.no_grad()
def evaluate(network, dataset, device):
    """Accuracy in percent, image by image."""
    network.eval()
    correct = 0
    for index in range(len(dataset)):
        image, label = dataset[index]
        correct += network(image[None].to(device)).argmax(1).item() == label
    return 100 * correct / len(dataset)


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
