"""The loop that the gradient methods share; they differ in images, labels, losses and mode.

Wherever SGD is the optimizer its momentum is Nesterov's, as in the base model's training; the
authors' code of SFRon, SCRUB, AMUN and DELETE has plain momentum.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class EpochPlan:
    """One epoch of unlearning.

    step: (model, optimizer, images, labels) -> loss (scalar, detached), as
    utils.train.training.gradient_step makes it of a loss function. rate: times the recipe's.
    batch_size: None for the recipe's. update_statistics: False keeps the running means of batch
    normalisation, and dropout off, as in evaluation. notes: tensors that the step adds to it, for
    what comes after the pass; a pass that is loaded instead of done has them too.
    """

    image_set: ImageSet | PairedSets
    step: Callable
    lr_factor: float = 1.0
    batch_size: int | None = None
    update_statistics: bool = True
    step_outputs: list[torch.Tensor] = field(default_factory=list)


def run_epochs(model, passes, config, *, count=None):
    """Go through `passes(generator)`, an iterable of EpochPlan that is asked for one at a time.

    So code between two passes sees the model as the first has left it. generator: torch.Generator
    (CPU) of all random draws, the order of the images among them. count: how many passes there
    are, for the progress bar; by default the recipe's epochs. Weights outside `config.mask` stay as
    they are. Passes that `config.progress` has are loaded instead of done, and each new one is kept
    there. Returns the model in evaluation mode.
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
        for number, each in enumerate(passes(generator)):
            kept = progress and progress.load_epoch()
            if kept:
                _restore(kept, model, generator, each)
                if progress.replay_done:
                    load_optimizer_state(optimizer, progress.optimizer)
                continue
            try:
                loss = _one_pass(model, optimizer, each, recipe, generator, bar, count - number)
                check_finite_weights(model)
            except NotFiniteError as error:
                raise error.in_epoch(number + 1, count) from None
            if progress:
                progress.save_epoch(_state(model, generator, each), optimizer.state_dict())
            if config.show:
                tqdm.write(f"epoch {number + 1}/{count}: loss {loss:.4f}")
    _check_finite(model, each.image_set, recipe.batch_size)
    return model.eval()


def cosine_factor(epoch, epochs):
    """Share of the rate in an epoch, 0-based: half a cosine from 1 towards 0, which it nears."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _one_pass(model, optimizer, each, recipe, generator, bar, passes_left):
    alone = not isinstance(each.image_set, PairedSets)  # a pair's batches hold two images at least
    if each.update_statistics and alone and len(each.image_set) < MIN_TRAIN_IMAGES:
        raise UserError(TOO_FEW.format(len(each.image_set)))
    batch_size = each.batch_size or recipe.batch_size
    bar.total = bar.n + passes_left * steps_per_epoch(len(each.image_set), batch_size)
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr * each.lr_factor
    model.train(each.update_statistics)
    with autocast_to(model, recipe.precision):
        return train_epoch(
            model,
            each.image_set,
            each.step,
            optimizer,
            batch_size=batch_size,
            generator=generator,
            bar=bar,
        )


def _state(model, generator, each):
    """What a pass has left: all that the code after it can see."""
    paired = isinstance(each.image_set, PairedSets)
    return {
        "model": model.state_dict(),
        "generator": generator.get_state(),
        "layer_randomness": get_rng_state(each.image_set.device),
        "side": each.image_set.state() if paired else None,
        "notes": list(each.step_outputs),
    }


def _restore(state, model, generator, each):
    device = each.image_set.device
    model.load_state_dict(state["model"])
    model.train(each.update_statistics)
    generator.set_state(state["generator"])
    set_rng_state(device, state["layer_randomness"])
    if state["side"] is not None:
        each.image_set.restore(state["side"])
    each.step_outputs.extend(note.to(device) for note in state["notes"])


@torch.inference_mode()
def _check_finite(model, image_set, batch_size):
    """Weights may be finite and still too large to answer with."""
    some = torch.arange(min(batch_size, len(image_set)), device=image_set.device)
    images, _ = image_set.batch(some)
    if not model.eval()(images).isfinite().all():
        raise NotFiniteError("after the last step")
