"""The loop that the gradient methods share; they differ in images, labels, losses and mode."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from unlearn.pairing import Paired
from utils.datasets import ImageSet
from utils.errors import NotFiniteError, UserError
from utils.precision import learning_in
from utils.training import SMALLEST_SET, TOO_FEW, count_steps, make_optimizer, train_epoch


@dataclass(frozen=True)
class Pass:
    """One epoch of unlearning.

    step: (model, optimizer, images, labels) -> loss (scalar, detached), as
    utils.training.gradient_step makes it of a loss function. rate: times the recipe's. batch_size:
    None for the recipe's. update_statistics: False keeps the running means of batch normalisation,
    and dropout off, as in evaluation.
    """

    image_set: ImageSet | Paired
    step: Callable
    rate: float = 1.0
    batch_size: int | None = None
    update_statistics: bool = True


def descend(model, passes, config, *, count=None):
    """Go through `passes(generator)`, an iterable of Pass that is asked for one at a time.

    So code between two passes sees the model as the first has left it. generator: torch.Generator
    (CPU) of all random draws, the order of the images among them. count: how many passes there
    are, for the progress bar; by default the recipe's epochs. Weights outside `config.mask` stay as
    they are. Returns the model in evaluation mode.
    """
    recipe = config.recipe
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = make_optimizer(model, recipe.optimizer, recipe.lr, recipe.weight_decay)
    if config.mask:
        config.mask.protect(model, optimizer)
    device = next(model.parameters()).device
    count = count or recipe.epochs
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)  # layers such as dropout draw from the global state
        with tqdm(unit="batch", disable=None if config.show else True) as bar:
            for number, each in enumerate(passes(generator)):
                loss = _one_pass(model, optimizer, each, recipe, generator, bar, count - number)
                if config.show:
                    tqdm.write(f"epoch {number + 1}/{count}: loss {loss:.4f}")
    _check_finite(model, each.image_set, recipe.batch_size)
    return model.eval()


def falling(epoch, epochs):
    """Share of the rate in an epoch, 0-based: half a cosine from 1 towards 0, which it nears."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _one_pass(model, optimizer, each, recipe, generator, bar, passes_left):
    alone = not isinstance(each.image_set, Paired)  # a pair's batches hold two images at least
    if each.update_statistics and alone and len(each.image_set) < SMALLEST_SET:
        raise UserError(TOO_FEW.format(len(each.image_set)))
    batch_size = each.batch_size or recipe.batch_size
    bar.total = bar.n + passes_left * count_steps(len(each.image_set), batch_size)
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr * each.rate
    model.train(each.update_statistics)
    with learning_in(model, recipe.precision):
        return train_epoch(
            model,
            each.image_set,
            each.step,
            optimizer,
            batch_size=batch_size,
            generator=generator,
            bar=bar,
        )


@torch.inference_mode()
def _check_finite(model, image_set, batch_size):
    """train_epoch sees each loss before its step, so nothing has looked at the last step yet."""
    some = torch.arange(min(batch_size, len(image_set)), device=image_set.device)
    images, _ = image_set.batch(some)
    if not model.eval()(images).isfinite().all():
        raise NotFiniteError("after the last step")
