"""The stages that bench.py times, and their data and model."""

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import lower_bounds
import plain
import torch
from torch import nn

from evaluation.audit import MODEL, Audit
from models.architectures import Classifier, build_model, make_spec
from unlearn.request.request import ForgetRequest
from unlearn.saliency import (
    SaliencyMap,
    compute_saliency_map,
    gradient_saliency,
    save_saliency_map,
)
from utils.data.loading import load_dataset
from utils.train.prediction import predict
from utils.train.recipe import BF16, Recipe
from utils.train.training import TrainingRun

FORGOTTEN = 3  # a class


@dataclass
class Stage:
    """ours, plain: functions without arguments that process `images` images.

    lower_bound: seconds. once: it takes too long to be repeated.
    """

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    images: int
    lower_bound: float
    once: bool = False


class Workload:
    """A data file, an untrained model and a recipe; each stage starts with the same weights."""

    def __init__(
        self,
        path: Path,
        folder: Path,
        args: argparse.Namespace,
        device: torch.device,
        precision: str,
    ):
        self.path, self.folder, self.device = path, folder, device
        self.dataset = load_dataset(str(path)).to(device)
        self.plain_train, self.plain_test = plain.load(path)
        self.train, self.test = self.dataset.train, self.dataset.test
        self.size, self.classes = self.dataset.input_size, self.dataset.num_classes
        spec = make_spec(args.arch, self.classes, self.dataset.channels, self.size)
        self.model = build_model(spec, seed=1)
        self.model.to(device)
        self.recipe = Recipe(args.epochs, 0.01, args.batch_size, precision=precision)
        self.request = ForgetRequest((min(FORGOTTEN, self.classes - 1),))

    def stages(self) -> list[Stage]:
        """Return the stages in the order of the table."""
        train, test = len(self.train), len(self.test)
        dtype = torch.bfloat16 if self.recipe.precision == BF16 else torch.float32
        training_rate = lower_bounds.matmul_rate(self.device, dtype)
        prediction_rate = lower_bounds.matmul_rate(self.device, torch.float32)
        images, _ = self.train.batch(slice(0, 8))
        model = copy.deepcopy(self.model)
        step = lower_bounds.flops_per_image(model.train(), images, backward=True)
        forward = lower_bounds.flops_per_image(model.eval(), images, backward=False)
        return [
            Stage(
                "data load",
                lambda: load_dataset(str(self.path)).to(self.device),
                lambda: [len(part) for part in plain.load(self.path)],
                train + test,
                self.dataset.image_bytes / lower_bounds.copy_rate(torch.device("cpu")),
            ),
            Stage(
                "training epoch",
                lambda: self.train_for(1, self.recipe),
                lambda: plain.training_epoch(self.plain_copy(), self.plain_train, self.device),
                train,
                train * step / training_rate,
            ),
            Stage(
                "prediction",
                lambda: predict(self.model, self.test),
                lambda: plain.predict(self.plain_copy(), self.plain_test, self.device),
                test,
                test * forward / prediction_rate,
            ),
            Stage(
                "evaluation",
                self.evaluate,
                lambda: plain.evaluate(
                    self.plain_copy(),
                    [self.plain_train, self.plain_test],
                    self.request.classes[0],
                    self.device,
                ),
                train + test,
                (train + test) * forward / prediction_rate,
            ),
            Stage(
                "all masks",
                self.masks,
                lambda: plain.all_masks(
                    self.plain_copy(), self.plain_train, self.classes, self.device, self.folder
                ),
                train,
                train * step / prediction_rate,
                once=True,
            ),
        ]

    def plain_copy(self, model: Classifier | None = None) -> nn.Module:
        """Return a copy of the network in the default memory format."""
        network = copy.deepcopy((model or self.model).network)
        return network.to(memory_format=torch.contiguous_format)

    def train_for(self, epochs: int, recipe: Recipe, model: Classifier | None = None) -> Classifier:
        """Train a copy of the model, or `model` itself, without validation."""
        model = model or copy.deepcopy(self.model)
        empty = self.train.subset(slice(0, 0))
        TrainingRun(model, self.train, empty, replace(recipe, epochs=epochs)).run(show=False)
        return model

    def evaluate(self) -> None:
        """Compute the accuracies and the other metrics of main_test_unlearn."""
        dataset = replace(self.dataset, val=self.train.subset(slice(0, 0)))
        Audit(self.model, dataset, self.request).add(MODEL)

    def masks(self) -> None:
        """Write the masks of all classes, and compute each threshold."""
        for number in range(self.classes):
            request = ForgetRequest((number,))
            saliency_map = self.saliency_map(request)
            save_saliency_map(self.folder / f"class_{number}.pt", saliency_map, request, {})
            for threshold in plain.THRESHOLDS:
                saliency_map.mask(threshold)

    def saliency_map(self, request: ForgetRequest) -> SaliencyMap:
        """Return the saliency map of a request."""
        forget_set, _ = request.split(self.dataset, "train")
        return compute_saliency_map(gradient_saliency(self.model, forget_set, request))
