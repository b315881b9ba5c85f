"""Training in shards: each network of an ensemble sees its own part of the training images alone.

Bourtoule et al., "Machine unlearning", IEEE S&P 2021 (SISA). Which image lies in which shard is
drawn once, from nothing but the number of training images, the number of shards and a seed, all of
which the model's record tells.
"""

from dataclasses import replace

import torch
from tqdm import tqdm

from models.architectures import Classifier, single_network_spec
from models.ensemble import shard_seed
from utils.runtime.errors import UserError
from utils.train.recipe import MIN_TRAIN_IMAGES
from utils.train.training import TrainingRun


def training_run(model, train_set, val_set, recipe):
    """What trains a fresh model by `recipe`: a TrainingRun, or a ShardedRun if it has shards."""
    kind = ShardedRun if model.spec.shards else TrainingRun
    return kind(model, train_set, val_set, recipe)


def check_shards(count, spec):
    """Raises UserError if `count` training images are too few for the shards of a spec."""
    if count < MIN_TRAIN_IMAGES * spec.shards:
        raise UserError(
            f"--sisa_shards {spec.shards}: each shard needs at least {MIN_TRAIN_IMAGES} training "
            f"images, and there are {count}: give {count // MIN_TRAIN_IMAGES} at most"
        )


def assign_shards(count, spec):
    """(count,) int64: the shard that each of `count` training images lies in, by its row.

    Drawn at random; the sizes of the shards differ by one at most.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(spec.partition_seed))
    numbers = torch.empty(count, dtype=torch.int64)
    for number, rows in enumerate(order.tensor_split(spec.shards)):
        numbers[rows] = number
    return numbers


def shards_of_images(image_set, spec):
    """(M,) int64: the shards that the images of a set lie in.

    The set is a view of all training images: its `indices` are their rows.
    """
    numbers = assign_shards(len(image_set.images), spec)
    return numbers[image_set.indices.cpu()].to(image_set.device)


class ShardedRun:
    """Trains the networks of a model in shards, each as a TrainingRun of its own with its own seed.

    It is used as a TrainingRun is. They go on side by side, epoch by epoch, so that the run can
    stop after any of them; `history` is the mean over the shards. Each shard has its own best
    epoch: `best_epoch` is a list. numbers: the shards to train, by default all; the other networks
    stay as they are. Raises UserError if a shard has too few images.
    """

    def __init__(self, model, train_set, val_set, recipe, numbers=None):
        spec = model.spec
        self.model, self.recipe = model, recipe
        lies_in = shards_of_images(train_set, spec)
        self.runs = {}
        for number in range(spec.shards) if numbers is None else numbers:
            part = train_set.subset(lies_in == number)
            if len(part) < MIN_TRAIN_IMAGES:
                raise UserError(
                    f"shard {number} of {spec.shards} has {len(part)} training images and needs at "
                    f"least {MIN_TRAIN_IMAGES}: train the base model with fewer --sisa_shards"
                )
            network = Classifier(model.network.shards[number], single_network_spec(spec))
            own = replace(recipe, seed=shard_seed(recipe.seed, number))
            self.runs[number] = TrainingRun(network.to(part.device), part, val_set, own)

    def run(self, after_epoch=None, show=True):
        """Train all epochs still to go. after_epoch: called with this run after each of them."""
        todo = self.recipe.epochs - len(self.history)
        steps = todo * len(self.runs)
        with tqdm(total=steps, unit="shard", disable=None if show else True) as bar:
            for _ in range(todo):
                for run in self.runs.values():
                    run.run(show=False, epochs=1)
                    bar.update()
                if show:
                    tqdm.write(self._line())
                if after_epoch:
                    after_epoch(self)

    @property
    def history(self):
        """A dict of figures for each epoch that all shards have gone through: their means."""
        epochs = zip(*(run.history for run in self.runs.values()), strict=False)
        return [
            {key: sum(figures[key] for figures in epoch) / len(epoch) for key in epoch[0]}
            for epoch in epochs
        ]

    @property
    def seconds(self):
        return sum(run.seconds for run in self.runs.values())

    @property
    def best_epoch(self):
        return [run.best_epoch for run in self.runs.values()]

    @property
    def best_weights(self):
        """The model's state_dict with each shard's network as it was after its best epoch."""
        weights = dict(self.model.state_dict())
        for number, run in self.runs.items():
            for name, tensor in run.best_weights.items():
                weights[f"network.shards.{number}.{name.removeprefix('network.')}"] = tensor
        return weights

    def state(self):
        """Everything that `restore` needs to go on as if nothing had happened."""
        return {"shards": [run.state() for run in self.runs.values()]}

    def restore(self, state):
        """Go on from the `state` of a run with the same arguments."""
        for run, own in zip(self.runs.values(), state["shards"], strict=True):
            run.restore(own)

    def _line(self):
        now = self.history[-1]
        return (
            f"epoch {len(self.history)}/{self.recipe.epochs}, mean of {len(self.runs)} shards: "
            f"train loss {now['train_loss']:.4f}, accuracy {now['train_accuracy_percent']:.2f}%; "
            f"val loss {now['val_loss']:.4f}, accuracy {now['val_accuracy_percent']:.2f}%; "
            f"{self.seconds:.0f} s"
        )
