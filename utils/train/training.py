"""The loop over batches that learns, and a whole training run that can stop and go on."""

import copy
import math
import time
from contextlib import nullcontext

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
TOO_FEW = f"{{}} training images are too few; {MIN_TRAIN_IMAGES} are the least"
WARMUP_SHARE = 0.05  # of all steps, from 0 to the full rate; then a cosine down to 0


def make_optimizer(model, name, lr, weight_decay):
    """The optimizer called `name` over all of the model's weights."""
    return _MAKE_OPTIMIZER[name](model.parameters(), lr, weight_decay)


def shuffled_batches(count, batch_size, generator, device):
    """Positions 0..count-1 in a fresh order, each once, `batch_size` at a time.

    A last batch of one image joins the one before it: batch normalisation cannot take one.
    """
    order = to_device_async(torch.randperm(count, generator=generator), device)
    parts = list(order.split(batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def steps_per_epoch(count, batch_size):
    """How many batches `batches` gives."""
    steps = math.ceil(count / batch_size)
    return steps - 1 if steps > 1 and (count - 1) % batch_size == 0 else steps


def gradient_step(loss_function):
    """A step for `train_epoch`: one forward pass, one backward pass, one step of the optimizer.

    loss_function: (logits, labels) -> scalar. The passes are replayed where that is faster
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
    model, image_set, step, optimizer, *, batch_size, generator, scheduler=None, bar=None
):
    """One pass over `image_set` in a fresh order, a step a batch; the mode is the caller's choice.

    step: (model, optimizer, images, labels) -> loss (scalar, detached), as `gradient_step` makes
    it. Returns the mean loss that was seen during the pass, before each step. Raises UserError once
    a loss is not finite: losses are looked at when the epoch ends, so that a GPU never waits
    inside it.
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


def load_optimizer_state(optimizer, state):
    """As load_state_dict; what is kept beside a weight then lies in memory as the weight does.

    A GPU has its channels last. Fused optimizers go through both as they lie, and would pair wrong
    numbers where a state comes from a device of another kind.
    """
    optimizer.load_state_dict(state)
    for weight, beside in optimizer.state.items():
        for name, value in beside.items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                beside[name] = torch.empty_like(weight).copy_(value)


def check_finite_weights(model):
    """Raises NotFiniteError if a weight or a running statistic is not finite.

    `train_epoch` sees each loss before its step, so nothing has looked at the last step yet.
    """
    numbers = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    if not torch.stack([tensor.isfinite().all() for tensor in numbers]).all():
        raise NotFiniteError("after the last step")


def count_correct(logits, labels):
    """How many outputs are right: the top class of each image, or each finding by itself."""
    predicted = logits > 0 if labels.ndim == 2 else logits.argmax(1)
    return (predicted == labels).sum()


class TrainingRun:
    """Trains `model` on `train_set` by `recipe`; best epoch by accuracy on `val_set`.

    The run depends on nothing but its arguments: it seeds its own random numbers. Afterwards the
    model holds the last weights; `best_weights` is the state_dict of `best_epoch` (1-based),
    `history` a list with a dict of figures for each epoch. Ties in accuracy go to the lower
    validation loss; with an empty `val_set` the best epoch is the last.
    """

    def __init__(self, model, train_set, val_set, recipe):
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
        self._layer_randomness = None  # random state of layers such as dropout, after an epoch

    def run(self, after_epoch=None, show=True, epochs=None):
        """Train all epochs still to go, or the next `epochs` of them.

        after_epoch: called with this run after each of them.
        """
        device = self.train_set.device
        # of a few epochs at a time the passes would be recorded each time anew
        replayed = cuda_graphs(self.model) if epochs is None else nullcontext()
        with forked_rng(self.recipe.seed, device), replayed:
            if self._layer_randomness:
                set_rng_state(device, self._layer_randomness)
            steps = steps_per_epoch(len(self.train_set), self.recipe.batch_size)
            todo = min(epochs or self.recipe.epochs, self.recipe.epochs - len(self.history))
            with tqdm(total=steps * todo, unit="batch", disable=None if show else True) as bar:
                for _ in range(todo):
                    try:
                        self._one_epoch(bar)
                    except NotFiniteError as error:
                        epoch = len(self.history) + 1
                        raise error.in_epoch(epoch, self.recipe.epochs) from None
                    self._layer_randomness = get_rng_state(device)
                    if show:
                        tqdm.write(self._line())
                    if after_epoch:
                        after_epoch(self)

    def state(self):
        """Everything that `restore` needs to go on as if nothing had happened."""
        parts = ("model", "optimizer", "scheduler")
        return {
            **{part: getattr(self, part).state_dict() for part in parts},
            "order": self.generator.get_state(),
            "layer_randomness": self._layer_randomness,
            "history": self.history,
            "seconds": self.seconds,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def restore(self, state):
        """Go on from the `state` of a run with the same arguments."""
        for part in ("model", "scheduler"):
            getattr(self, part).load_state_dict(state[part])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.generator.set_state(state["order"])
        self._layer_randomness = state["layer_randomness"]
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
    warmup = math.ceil(WARMUP_SHARE * steps)

    def factor(step):
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor
