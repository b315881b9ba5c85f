"""The stages that bench.py times, and what they work on."""

import copy
from dataclasses import dataclass, replace

import floors
import plain
import torch

from evaluation.audit import MODEL, Audit
from models.architectures import build_model, make_spec
from unlearn.request.request import ForgetRequest
from unlearn.saliency import (
    compute_percentiles,
    gradient_saliency,
    mask_from_percentiles,
    save_percentiles,
)
from utils.data.loading import load_dataset
from utils.train.prediction import predict
from utils.train.recipe import BF16, Recipe
from utils.train.training import TrainingRun

FORGOTTEN = 3  # a class


@dataclass
class Stage:
    """ours, plain: functions of no arguments. images: that it goes through.

    floor: seconds. once: it takes too long to be repeated.
    """

    name: str
    ours: object
    plain: object
    images: int
    floor: float
    once: bool = False


class Work:
    """A data file, a fresh model and a recipe; each stage begins with the same weights."""

    def __init__(self, path, folder, args, device, precision):
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

    def stages(self):
        train, test = len(self.train), len(self.test)
        dtype = torch.bfloat16 if self.recipe.precision == BF16 else torch.float32
        learning = floors.matmul_rate(self.device, dtype)
        looking = floors.matmul_rate(self.device, torch.float32)
        images, _ = self.train.batch(slice(0, 8))
        step = floors.flops_an_image(copy.deepcopy(self.model).train(), images, backward=True)
        look = floors.flops_an_image(copy.deepcopy(self.model).eval(), images, backward=False)
        return [
            Stage(
                "data load",
                lambda: load_dataset(str(self.path)).to(self.device),
                lambda: [len(part) for part in plain.load(self.path)],
                train + test,
                self.dataset.image_bytes / floors.copy_rate(torch.device("cpu")),
            ),
            Stage(
                "training epoch",
                lambda: self.train_for(1, self.recipe),
                lambda: plain.training_epoch(self.plain_copy(), self.plain_train, self.device),
                train,
                train * step / learning,
            ),
            Stage(
                "prediction",
                lambda: predict(self.model, self.test),
                lambda: plain.predict(self.plain_copy(), self.plain_test, self.device),
                test,
                test * look / looking,
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
                (train + test) * look / looking,
            ),
            Stage(
                "all masks",
                self.masks,
                lambda: plain.all_masks(
                    self.plain_copy(), self.plain_train, self.classes, self.device, self.folder
                ),
                train,
                train * step / looking,
                once=True,
            ),
        ]

    def plain_copy(self, model=None):
        network = copy.deepcopy((model or self.model).network)
        return network.to(memory_format=torch.contiguous_format)

    def train_for(self, epochs, recipe, model=None):
        model = model or copy.deepcopy(self.model)
        nothing = self.train.subset(slice(0, 0))
        TrainingRun(model, self.train, nothing, replace(recipe, epochs=epochs)).run(show=False)
        return model

    def evaluate(self):
        """Compute outputs and accuracies as main_test_unlearn does without further measures."""
        seen = replace(self.dataset, val=self.train.subset(slice(0, 0)))
        Audit(self.model, seen, self.request).add(MODEL)

    def masks(self):
        for number in range(self.classes):
            request = ForgetRequest((number,))
            percents = self.percents(request)
            save_percentiles(self.folder / f"class_{number}.pt", percents, request, {})
            for threshold in plain.THRESHOLDS:
                mask_from_percentiles(percents, threshold)

    def percents(self, request):
        forget_set, _ = request.split(self.dataset, "train")
        return compute_percentiles(gradient_saliency(self.model, forget_set, request))
