"""The training loop of gradient methods, which differ in images, labels, losses and mode.

SGD uses Nesterov momentum, as in the base model's training; the authors' code of SFRon, SCRUB, AMUN
and DELETE uses plain momentum.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from unlearn.engine.pairing import PairedSets
from utils.data.datasets import ImageSet
from utils.runtime.errors import NotFiniteError, UserError
from utils.train.cuda_graphs import cuda_graphs
from utils.train.precision import autocast_to
from utils.train.randomness import forked_rng, get_rng_state, set_rng_state
from utils.train.recipe import MIN_TRAIN_IMAGES
from utils.train.training import (
    TOO_FEW,
    check_finite_weights,
    load_optimizer_state,
    make_optimizer,
    steps_per_epoch,
    train_epoch,
)

if TYPE_CHECKING:
    from models.architectures import Classifier
    from unlearn.engine.config import UnlearnConfig


@dataclass(frozen=True)
class EpochPlan:
    """What one epoch of unlearning trains on, and how.

    step: (model, optimizer, images, labels) -> loss (detached scalar), which also updates the
    model; utils.train.training.gradient_step returns such a function for a loss. lr_factor: of
    the recipe's learning rate. batch_size: None for the recipe's. update_statistics: False trains
    in evaluation mode, with frozen running statistics of batch normalisation and without dropout.
    step_outputs: a list that `step` appends tensors to, for code that runs after the epoch; it is
    saved and restored with the epoch.
    """

    image_set: ImageSet | PairedSets
    step: Callable
    lr_factor: float = 1.0
    batch_size: int | None = None
    update_statistics: bool = True
    step_outputs: list[torch.Tensor] = field(default_factory=list)


def run_epochs(
    model: "Classifier",
    plan_epochs: Callable[[torch.Generator], Iterable[EpochPlan]],
    config: "UnlearnConfig",
    *,
    count: int | None = None,
) -> "Classifier":
    """Train a model by the epochs that `plan_epochs(generator)` yields one at a time.

    Code between two yields therefore sees the model that the previous epoch has left. generator:
    torch.Generator (CPU) for all random numbers, including the order of the images. count: number
    of epochs, for the progress bar; the recipe's by default. Weights outside `config.mask` keep
    their values. Epochs saved in `config.progress` are loaded instead of computed, and each new one
    is saved there. Returns the model in evaluation mode. Raises NotFiniteError if the loss, the
    weights or the outputs become infinite or NaN.
    """
    recipe, progress = config.recipe, config.progress
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = make_optimizer(model, recipe.optimizer, recipe.lr, recipe.weight_decay)
    if config.mask:
        config.mask.apply_to(model, optimizer)
    device = next(model.parameters()).device
    count = count or recipe.epochs
    with (
        forked_rng(recipe.seed, device),
        cuda_graphs(model),
        tqdm(unit="batch", disable=None if config.show else True) as bar,
    ):
        for number, plan in enumerate(plan_epochs(generator)):
            saved = progress and progress.load_epoch()
            if saved:
                _restore(saved, model, generator, plan)
                if progress.replay_done:
                    load_optimizer_state(optimizer, progress.optimizer)
                continue
            try:
                loss = _train_one_epoch(
                    model, optimizer, plan, recipe, generator, bar, count - number
                )
                check_finite_weights(model)
            except NotFiniteError as error:
                raise error.in_epoch(number + 1, count) from None
            if progress:
                progress.save_epoch(_state(model, generator, plan), optimizer.state_dict())
            if config.show:
                tqdm.write(f"epoch {number + 1}/{count}: loss {loss:.4f}")
    _check_finite_outputs(model, plan.image_set, recipe.batch_size)
    return model.eval()


def cosine_factor(epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate in an epoch (0-based): half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _train_one_epoch(model, optimizer, plan, recipe, generator, bar, epochs_left):
    paired = isinstance(plan.image_set, PairedSets)  # their batches have at least two images
    if plan.update_statistics and not paired and len(plan.image_set) < MIN_TRAIN_IMAGES:
        raise UserError(TOO_FEW.format(len(plan.image_set)))
    batch_size = plan.batch_size or recipe.batch_size
    bar.total = bar.n + epochs_left * steps_per_epoch(len(plan.image_set), batch_size)
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr * plan.lr_factor
    model.train(plan.update_statistics)
    with autocast_to(model, recipe.precision):
        return train_epoch(
            model,
            plan.image_set,
            plan.step,
            optimizer,
            batch_size=batch_size,
            generator=generator,
            bar=bar,
        )


def _state(model, generator, plan):
    """Everything an epoch has changed that later code can see."""
    paired = isinstance(plan.image_set, PairedSets)
    return {
        "model": model.state_dict(),
        "generator": generator.get_state(),
        "layer_randomness": get_rng_state(plan.image_set.device),
        "side": plan.image_set.state() if paired else None,
        "notes": list(plan.step_outputs),
    }


def _restore(state, model, generator, plan):
    device = plan.image_set.device
    model.load_state_dict(state["model"])
    model.train(plan.update_statistics)
    generator.set_state(state["generator"])
    set_rng_state(device, state["layer_randomness"])
    if state["side"] is not None:
        plan.image_set.restore(state["side"])
    plan.step_outputs.extend(tensor.to(device) for tensor in state["notes"])


@torch.inference_mode()
def _check_finite_outputs(model, image_set, batch_size):
    """Finite weights can still be too large to give finite outputs."""
    positions = torch.arange(min(batch_size, len(image_set)), device=image_set.device)
    images, _ = image_set.batch(positions)
    if not model.eval()(images).isfinite().all():
        raise NotFiniteError("after the last step")
