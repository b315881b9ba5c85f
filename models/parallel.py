"""Data parallelism: the forward and backward pass of a batch, split across processes.

Each rank runs the network on its own part of the batch and then gathers the logits of all parts,
so that losses, methods and measures are the same as with one process. The backward pass mirrors
this: each rank takes its rows of the logits' gradient (all ranks have the same gradient, so nothing
is divided), gradients of the images are gathered, and those of the weights are summed. The results
are bitwise identical on all ranks, which must take the same decisions.

Batch normalisation uses the statistics of the whole batch. Dropout uses a different random state on
each rank, and leaves the common random state the same on all ranks.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn import functional

from utils.runtime import processes
from utils.train.randomness import forked_rng

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAX_SEED = 2**62


@dataclass(frozen=True)
class _Part:
    """The part of a batch of this rank: `sizes[own]` images from `start`.

    A rank with an empty part runs the network on a black image without any effect on the result,
    because many networks do not accept an empty batch.
    """

    sizes: tuple[int, ...]
    own: int

    @classmethod
    def of(cls, images):
        size, rest = divmod(images, processes.world_size())
        sizes = tuple(size + (number < rest) for number in range(processes.world_size()))
        return cls(sizes, processes.rank())

    @property
    def size(self):
        return self.sizes[self.own]

    @property
    def start(self):
        return sum(self.sizes[: self.own])

    def fractions(self, device):
        """Return each rank's fraction of the batch, (world size, 1) float64, without a sync."""
        smallest = self.sizes[-1]
        has_more = torch.arange(len(self.sizes), device=device) < sum(self.sizes) % len(self.sizes)
        return (smallest + has_more.double())[:, None] / sum(self.sizes)


_current_part = None  # the _Part that a network is running on


def split_across_ranks(forward: Callable) -> Callable:
    """Decorate a module's forward, images (B, ...) -> (B, K), to split batches across ranks."""

    @wraps(forward)
    def split_forward(model, images):
        global _current_part
        # meta tensors have no values to send
        if processes.world_size() == 1 or _current_part or images.is_meta:
            return forward(model, images)
        part = _Part.of(len(images))
        own = _Take.apply(images, part)
        _current_part = part
        try:
            with (
                _whole_batch_statistics(model, part, own.device),
                _rank_rng(model, own.device),
            ):
                logits = _run(model, own)
        finally:
            _current_part = None
        return _Gather.apply(logits, part)

    return split_forward


def gather_batch(rows: torch.Tensor) -> torch.Tensor:
    """Return the whole batch (B, ...) of a layer's values for this rank's part (B', ...).

    For hooks of a running network. The result has no gradient.
    """
    return _gathered(rows, _current_part) if _current_part else rows


def _run(model, images):
    if not torch.is_grad_enabled():
        return model(images)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    shared = _SumGradients.apply(*weights.values()) if weights else ()
    return functional_call(model, dict(zip(weights, shared, strict=True)), (images,))


class _Take(Function):
    """Take this rank's rows of those that all ranks have; for an empty part a row of zeros."""

    @staticmethod
    def forward(ctx, rows, part):
        ctx.part = part
        if part.size == 0:
            return rows.new_zeros(1, *rows.shape[1:])
        return rows.narrow(0, part.start, part.size).clone()

    @staticmethod
    def backward(ctx, gradient):
        return _Gather.apply(gradient, ctx.part), None


class _Gather(Function):
    """Gather the rows of all ranks on all ranks."""

    @staticmethod
    def forward(ctx, rows, part):
        ctx.part = part
        return _gathered(rows, part)

    @staticmethod
    def backward(ctx, gradient):
        return _Take.apply(gradient, ctx.part), None


class _SumGradients(Function):
    """Identity of the weights, whose gradients are summed over all ranks in one message.

    A weight that the loss does not depend on has no gradient on any rank.
    """

    @staticmethod
    def forward(ctx, *weights):
        ctx.set_materialize_grads(False)
        return tuple(weight.view_as(weight) for weight in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        existing = [gradient for gradient in gradients if gradient is not None]
        total = torch.cat([gradient.reshape(-1) for gradient in existing])
        dist.all_reduce(total)
        sums = iter(total.split([gradient.numel() for gradient in existing]))
        return tuple(
            None if gradient is None else next(sums).view(gradient.shape) for gradient in gradients
        )


def _gathered(rows, part):
    largest = part.sizes[0]
    padded = rows.new_zeros(largest, *rows.shape[1:])
    padded[: part.size] = rows[: part.size]
    parts = [torch.empty_like(padded) for _ in part.sizes]
    dist.all_gather(parts, padded)
    return torch.cat([found[:size] for found, size in zip(parts, part.sizes, strict=True)])


@contextmanager
def _rank_rng(model, device):
    """Use a random state of this rank, seeded from the common state, within the block."""
    if not any(module.training for module in model.modules()):
        yield
        return
    seed = int(torch.randint(MAX_SEED, ()))
    with forked_rng(seed + processes.rank(), device):
        yield


@contextmanager
def _whole_batch_statistics(model, part, device):
    """Let batch normalisation in training mode use the statistics of the whole batch.

    torch's SyncBatchNorm does the same on GPUs only, and changes the network permanently.
    """
    layers = [each for each in model.modules() if isinstance(each, BATCH_NORMS) and each.training]
    fractions = part.fractions(device)
    for layer in layers:
        layer.forward = partial(_normalise, layer, part, fractions)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalise(layer, part, fractions, values):
    """Normalise this rank's values (B, C, ...), and update the running statistics of `layer`."""
    count = sum(part.sizes) * values[0, 0].numel()
    if count < 2:
        raise ValueError(f"batch normalisation cannot train on one value: {tuple(values.shape)}")
    normalised, mean, variance = _BatchNorm.apply(
        values, layer.weight, layer.bias, layer.eps, part, fractions
    )
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * (count / (count - 1)), layer.momentum)
    return normalised


class _BatchNorm(Function):
    """Map (values (B, C, ...), weight, bias) of a part to (normalised, mean (C,), variance (C,)).

    Mean and biased variance of the whole batch are combined from those of the parts (Chan et al.,
    "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
    """

    @staticmethod
    def forward(ctx, values, weight, bias, eps, part, fractions):
        over = [axis for axis in range(values.ndim) if axis != 1]
        own = torch.stack(torch.var_mean(_precise(values), over, correction=0))
        parts = [torch.empty_like(own) for _ in part.sizes]
        dist.all_gather(parts, own)
        variances, means = torch.stack(parts, 1)
        fractions = fractions.to(own.dtype)
        mean = (fractions * means).sum(0)
        variance = (fractions * (variances + (means - mean).square())).sum(0)
        ctx.save_for_backward(values, weight, mean, (variance + eps).rsqrt())
        ctx.part, ctx.over = part, over
        ctx.mark_non_differentiable(mean, variance)
        normalised = functional.batch_norm(values, mean, variance, weight, bias, eps=eps)
        return normalised, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, *_):
        values, weight, mean, scale = ctx.saved_tensors
        shape = [1, -1] + [1] * (values.ndim - 2)
        gradient = _precise(gradient)
        standard = (_precise(values) - mean.view(shape)) * scale.view(shape)
        own = torch.stack([gradient.sum(ctx.over), (gradient * standard).sum(ctx.over)])
        total = own.clone()
        dist.all_reduce(total)
        constant, along = total / (sum(ctx.part.sizes) * values[0, 0].numel())
        inner = gradient - constant.view(shape) - standard * along.view(shape)
        if ctx.part.size == 0:  # the black image has no effect
            inner = torch.zeros_like(inner)
        by_values = inner * (scale if weight is None else scale * weight).view(shape)
        if weight is None:
            return by_values.to(values.dtype), None, None, None, None, None
        return by_values.to(values.dtype), own[1], own[0], None, None, None


def _precise(values):
    return values.to(torch.promote_types(values.dtype, torch.float32))
