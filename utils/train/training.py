"""The training loop, and a training run that can be interrupted and resumed."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from utils.data.prefetch import iter_batches
from utils.runtime.devices import to_device_async
from utils.runtime.errors import NotFiniteError, UserError
from utils.train.cuda_graphs import cuda_graphs, graphed_forward, pause_capture
from utils.train.losses import classification_loss
from utils.train.precision import autocast_to
from utils.train.prediction import predict
from utils.train.randomness import forked_rng, get_rng_state, set_rng_state
from utils.train.recipe import MIN_TRAIN_IMAGES

if TYPE_CHECKING:
    from utils.data.datasets import CompositeSet, ImageSet
    from utils.train.recipe import Recipe

Step = Callable[..., torch.Tensor]  # (model, optimizer, images, labels) -> loss, scalar, detached

_MAKE_OPTIMIZER = {
    "sgd": lambda weights, lr, decay: torch.optim.SGD(
        weights, lr, momentum=MOMENTUM, nesterov=True, weight_decay=decay, fused=True
    ),
    "adam": lambda weights, lr, decay: torch.optim.Adam(
        weights, lr, weight_decay=decay, fused=True
    ),
    "adamw": lambda weights, lr, decay: torch.optim.AdamW(
        weights, lr, weight_decay=decay, fused=True
    ),
}
MOMENTUM = 0.9
TOO_FEW = f"{{}} training images are too few; at least {MIN_TRAIN_IMAGES} are needed"
WARMUP_FRACTION = 0.05  # of all steps, from 0 to the full rate; then a cosine down to 0


def make_optimizer(
    model: torch.nn.Module, name: str, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return the optimizer `name`, one of OPTIMIZERS, of all of the model's weights."""
    return _MAKE_OPTIMIZER[name](model.parameters(), lr, weight_decay)


def shuffled_batches(
    count: int, batch_size: int, generator: torch.Generator, device: torch.device | str
) -> list[torch.Tensor]:
    """Return a random permutation of the positions 0 .. count - 1, split into batches.

    A last batch of one image is merged into the batch before it: batch normalisation cannot train
    on one image.
    """
    order = to_device_async(torch.randperm(count, generator=generator), device)
    parts = list(order.split(batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the number of batches that `shuffled_batches` returns."""
    steps = math.ceil(count / batch_size)
    return steps - 1 if steps > 1 and (count - 1) % batch_size == 0 else steps


def gradient_step(loss_function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Step:
    """Return a step for `train_epoch`: forward pass, backward pass, optimizer step.

    loss_function: (logits, labels) -> scalar. Uses CUDA graphs where that is faster
    (utils.train.cuda_graphs).
    """

    def step(model, optimizer, images, labels):
        loss = loss_function(graphed_forward(model, images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def train_epoch(
    model: torch.nn.Module,
    image_set: "ImageSet | CompositeSet",
    step: Step,
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
    generator: torch.Generator,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    bar: tqdm | None = None,
) -> float:
    """Train for one epoch in random order, one step per batch, and return the mean loss.

    The loss of a batch is the one before its step. The caller sets training or evaluation mode.
    Raises NotFiniteError if a loss is not finite: losses are checked when the epoch ends, so that
    the epoch needs no synchronization with a GPU.

    step: (model, optimizer, images, labels) -> loss, as `gradient_step` returns it.
    """
    device = image_set.device
    pause_capture(model, paused=image_set.workers > 0)
    parts = shuffled_batches(len(image_set), batch_size, generator, device)
    losses = torch.zeros(len(parts), device=device)
    for number, batch in enumerate(iter_batches(image_set, parts)):
        losses[number] = step(model, optimizer, *batch)
        if scheduler:
            scheduler.step()
        if bar:
            bar.update()
    if not losses.isfinite().all():
        number = int((~losses.isfinite()).nonzero()[0]) + 1
        raise NotFiniteError(f"at step {number} of {len(parts)}")
    sizes = to_device_async(torch.tensor([len(part) for part in parts]), device)
    return (losses @ sizes.float() / len(image_set)).item()


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Load a state_dict, and give each tensor of the state the memory format of its weight.

    On a GPU weights are channels-last. Fused optimizers read both in memory order, and would pair
    wrong elements if the state was saved on a device of another type.
    """
    optimizer.load_state_dict(state)
    for weight, weight_state in optimizer.state.items():
        for name, value in weight_state.items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                weight_state[name] = torch.empty_like(weight).copy_(value)


def check_finite_weights(model: torch.nn.Module) -> None:
    """Raise NotFiniteError if a weight or a running statistic is not finite.

    `train_epoch` checks losses, each from before its step, and so not the result of the last step.
    """
    numbers = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    if not torch.stack([tensor.isfinite().all() for tensor in numbers]).all():
        raise NotFiniteError("after the last step")


def count_correct(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the number of correct predictions: of classes, or of findings (multi-label)."""
    predicted = logits > 0 if labels.ndim == 2 else logits.argmax(1)
    return (predicted == labels).sum()


class TrainingRun:
    """Trains `model` on `train_set` by `recipe`; selects the best epoch by accuracy on `val_set`.

    The result depends on the arguments only: the run seeds its own random numbers. After it the
    model has the last weights; `best_weights` is the state_dict of `best_epoch` (1-based),
    `history` a list of one dict of metrics per epoch. Ties in accuracy go to the lower validation
    loss; with an empty `val_set` the best epoch is the last. Raises UserError for too few images.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        train_set: "ImageSet | CompositeSet",
        val_set: "ImageSet | CompositeSet",
        recipe: "Recipe",
    ):
        if len(train_set) < MIN_TRAIN_IMAGES:
            raise UserError(TOO_FEW.format(len(train_set)))
        self.model, self.train_set, self.val_set, self.recipe = model, train_set, val_set, recipe
        if recipe.compiled:
            model.compile_for(min(recipe.batch_size, len(train_set)))
        self.optimizer = make_optimizer(model, recipe.optimizer, recipe.lr, recipe.weight_decay)
        steps = recipe.epochs * steps_per_epoch(len(train_set), recipe.batch_size)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, _warmup_cosine(steps))
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.history, self.seconds = [], 0.0
        self.best_epoch, self.best_weights = 0, None
        self._rng_state = None  # of layers such as dropout, after the last epoch

    def run(
        self,
        after_epoch: "Callable[[TrainingRun], None] | None" = None,
        show: bool = True,
        epochs: int | None = None,
    ) -> None:
        """Train the remaining epochs, or the next `epochs` of them.

        after_epoch: called with this run after each epoch. show: print one line per epoch.
        """
        device = self.train_set.device
        # with a few epochs per call the graphs would be captured in each call
        graphs = cuda_graphs(self.model) if epochs is None else nullcontext()
        with forked_rng(self.recipe.seed, device), graphs:
            if self._rng_state:
                set_rng_state(device, self._rng_state)
            steps = steps_per_epoch(len(self.train_set), self.recipe.batch_size)
            remaining = min(epochs or self.recipe.epochs, self.recipe.epochs - len(self.history))
            with tqdm(total=steps * remaining, unit="batch", disable=None if show else True) as bar:
                for _ in range(remaining):
                    try:
                        self._one_epoch(bar)
                    except NotFiniteError as error:
                        epoch = len(self.history) + 1
                        raise error.in_epoch(epoch, self.recipe.epochs) from None
                    self._rng_state = get_rng_state(device)
                    if show:
                        tqdm.write(self._line())
                    if after_epoch:
                        after_epoch(self)

    def state(self) -> dict:
        """Return all that `restore` needs to continue with bitwise identical results."""
        parts = ("model", "optimizer", "scheduler")
        return {
            **{part: getattr(self, part).state_dict() for part in parts},
            "order": self.generator.get_state(),
            "layer_randomness": self._rng_state,
            "history": self.history,
            "seconds": self.seconds,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict) -> None:
        """Continue from the `state` of a run with the same arguments."""
        for part in ("model", "scheduler"):
            getattr(self, part).load_state_dict(state[part])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.generator.set_state(state["order"])
        self._rng_state = state["layer_randomness"]
        self.history, self.seconds = list(state["history"]), state["seconds"]
        self.best_epoch, self.best_weights = state["best_epoch"], state["best_weights"]

    def _one_epoch(self, bar):
        began = time.perf_counter()
        self.model.train()
        correct = torch.zeros((), device=self.train_set.device)

        def loss_function(logits, labels):
            nonlocal correct
            correct += count_correct(logits.detach(), labels)
            return classification_loss(logits, labels)

        with autocast_to(self.model, self.recipe.precision):
            loss = train_epoch(
                self.model,
                self.train_set,
                gradient_step(loss_function),
                self.optimizer,
                batch_size=self.recipe.batch_size,
                generator=self.generator,
                scheduler=self.scheduler,
                bar=bar,
            )
        check_finite_weights(self.model)
        accuracy = correct.item() / self.train_set.labels.numel()
        val_loss, val_accuracy = _validate(self.model, self.val_set)
        if len(self.val_set) and not math.isfinite(val_loss):
            raise NotFiniteError("on the validation images")
        self.history.append(
            {
                "train_loss": loss,
                "train_accuracy_percent": 100 * accuracy,
                "val_loss": val_loss,
                "val_accuracy_percent": 100 * val_accuracy,
            }
        )
        if self._is_best_so_far():
            self.best_epoch = len(self.history)
            self.best_weights = copy.deepcopy(self.model.state_dict())
        self.seconds += time.perf_counter() - began

    def _is_best_so_far(self):
        def merit(epoch):
            return epoch["val_accuracy_percent"], -epoch["val_loss"]

        now = self.history[-1]
        if len(self.val_set) == 0 or not self.best_epoch:
            return True
        return merit(now) > merit(self.history[self.best_epoch - 1])

    def _line(self):
        now = self.history[-1]
        return (
            f"epoch {len(self.history)}/{self.recipe.epochs}: "
            f"train loss {now['train_loss']:.4f}, accuracy {now['train_accuracy_percent']:.2f}%; "
            f"val loss {now['val_loss']:.4f}, accuracy {now['val_accuracy_percent']:.2f}%; "
            f"{self.seconds:.0f} s"
        )


def _validate(model, val_set):
    if len(val_set) == 0:
        return math.nan, math.nan
    logits = predict(model, val_set)
    loss = classification_loss(logits, val_set.labels).item()
    return loss, count_correct(logits, val_set.labels).item() / val_set.labels.numel()


def _warmup_cosine(steps):
    warmup = math.ceil(WARMUP_FRACTION * steps)

    def factor(step):
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor
