"""Training in shards: each network of an ensemble is trained on its own part of the images.

Bourtoule et al., "Machine unlearning", IEEE S&P 2021 (SISA). The random partition depends only on
the number of training images, the number of shards and a seed, all of which are in the model's
record.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from models.architectures import Classifier, single_network_spec
from models.ensemble import shard_seed
from utils.runtime.errors import UserError
from utils.train.recipe import MIN_TRAIN_IMAGES
from utils.train.training import TrainingRun

if TYPE_CHECKING:
    from models.architectures import ModelSpec
    from utils.data.datasets import CompositeSet, ImageSet
    from utils.train.recipe import Recipe


def training_run(
    model: Classifier,
    train_set: "ImageSet | CompositeSet",
    val_set: "ImageSet | CompositeSet",
    recipe: "Recipe",
) -> "TrainingRun | ShardedRun":
    """Return the run that trains a new model: a ShardedRun if the model has shards."""
    kind = ShardedRun if model.spec.shards else TrainingRun
    return kind(model, train_set, val_set, recipe)


def check_shards(count: int, spec: "ModelSpec") -> None:
    """Raise UserError if `count` training images are too few for the shards of a spec."""
    if count < MIN_TRAIN_IMAGES * spec.shards:
        raise UserError(
            f"--sisa_shards {spec.shards}: each shard needs at least {MIN_TRAIN_IMAGES} training "
            f"images, and there are {count}: give {count // MIN_TRAIN_IMAGES} at most"
        )


def assign_shards(count: int, spec: "ModelSpec") -> torch.Tensor:
    """Return the shard of each of `count` training images, (count,) int64, by its row.

    The assignment is random; the sizes of the shards differ by at most one.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(spec.partition_seed))
    numbers = torch.empty(count, dtype=torch.int64)
    for number, rows in enumerate(order.tensor_split(spec.shards)):
        numbers[rows] = number
    return numbers


def shards_of_images(image_set: "ImageSet", spec: "ModelSpec") -> torch.Tensor:
    """Return the shard of each image of a set, (M,) int64.

    The set must be a view of all training images: its `indices` are their rows.
    """
    numbers = assign_shards(len(image_set.images), spec)
    return numbers[image_set.indices.cpu()].to(image_set.device)


class ShardedRun:
    """Trains the networks of a model in shards, each by a TrainingRun with a seed of its own.

    It has the interface of a TrainingRun. All shards train one epoch before any trains the next, so
    that the run can be interrupted after each epoch; `history` is the mean over the shards, and
    `best_epoch` a list with the best epoch of each shard. numbers: the shards to train, by default
    all; the other networks do not change. Raises UserError if a shard has too few images.
    """

    def __init__(
        self,
        model: Classifier,
        train_set: "ImageSet",
        val_set: "ImageSet | CompositeSet",
        recipe: "Recipe",
        numbers: Iterable[int] | None = None,
    ):
        spec = model.spec
        self.model, self.recipe = model, recipe
        shard_of_image = shards_of_images(train_set, spec)
        self.runs = {}
        for number in range(spec.shards) if numbers is None else numbers:
            part = train_set.subset(shard_of_image == number)
            if len(part) < MIN_TRAIN_IMAGES:
                raise UserError(
                    f"shard {number} of {spec.shards} has {len(part)} training images and needs at "
                    f"least {MIN_TRAIN_IMAGES}: train the base model with fewer --sisa_shards"
                )
            network = Classifier(model.network.shards[number], single_network_spec(spec))
            shard_recipe = replace(recipe, seed=shard_seed(recipe.seed, number))
            self.runs[number] = TrainingRun(network.to(part.device), part, val_set, shard_recipe)

    def run(
        self, after_epoch: "Callable[[ShardedRun], None] | None" = None, show: bool = True
    ) -> None:
        """Train the remaining epochs. after_epoch: called with this run after each epoch."""
        remaining = self.recipe.epochs - len(self.history)
        steps = remaining * len(self.runs)
        with tqdm(total=steps, unit="shard", disable=None if show else True) as bar:
            for _ in range(remaining):
                for run in self.runs.values():
                    run.run(show=False, epochs=1)
                    bar.update()
                if show:
                    tqdm.write(self._line())
                if after_epoch:
                    after_epoch(self)

    @property
    def history(self) -> list[dict[str, float]]:
        """The mean metrics of each epoch that all shards have finished."""
        epochs = zip(*(run.history for run in self.runs.values()), strict=False)
        return [
            {key: sum(metrics[key] for metrics in epoch) / len(epoch) for key in epoch[0]}
            for epoch in epochs
        ]

    @property
    def seconds(self) -> float:
        """The training time of all shards."""
        return sum(run.seconds for run in self.runs.values())

    @property
    def best_epoch(self) -> list[int]:
        """The best epoch of each shard."""
        return [run.best_epoch for run in self.runs.values()]

    @property
    def best_weights(self) -> dict[str, torch.Tensor]:
        """The model's state_dict with the weights of each shard's best epoch."""
        weights = dict(self.model.state_dict())
        for number, run in self.runs.items():
            for name, tensor in run.best_weights.items():
                weights[f"network.shards.{number}.{name.removeprefix('network.')}"] = tensor
        return weights

    def state(self) -> dict:
        """Return all that `restore` needs to continue with bitwise identical results."""
        return {"shards": [run.state() for run in self.runs.values()]}

    def restore(self, state: dict) -> None:
        """Continue from the `state` of a run with the same arguments."""
        for run, shard_state in zip(self.runs.values(), state["shards"], strict=True):
            run.restore(shard_state)

    def _line(self):
        now = self.history[-1]
        return (
            f"epoch {len(self.history)}/{self.recipe.epochs}, mean of {len(self.runs)} shards: "
            f"train loss {now['train_loss']:.4f}, accuracy {now['train_accuracy_percent']:.2f}%; "
            f"val loss {now['val_loss']:.4f}, accuracy {now['val_accuracy_percent']:.2f}%; "
            f"{self.seconds:.0f} s"
        )
