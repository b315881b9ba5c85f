"""A network's pass over a batch, parted among the processes that work together.

Each process runs the network on its own run of the batch's images and then holds the logits of all
of them, so that losses, methods and measures need not know of it. The way back mirrors this: each
takes its own rows of the logits' gradient (all have the same, so nothing is divided), gradients by
the images are put together, and those by the weights are summed. What all processes hold is the
same bit for bit on each of them, as they must come to the same decisions.

Batch normalisation measures the whole batch. Dropout and the like draw other random numbers than
one process would, others in each part, and leave the common random state alike everywhere.
"""

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
LARGEST_SEED = 2**62


@dataclass(frozen=True)
class _Part:
    """Which images of a batch are this process's: `sizes[own]` of them from `start`.

    A process whose part is empty runs the network on a black image that counts for nothing, because
    many networks cannot run on none.
    """

    sizes: tuple[int, ...]
    own: int

    @classmethod
    def of(cls, images):
        share, rest = divmod(images, processes.world_size())
        sizes = tuple(share + (number < rest) for number in range(processes.world_size()))
        return cls(sizes, processes.rank())

    @property
    def size(self):
        return self.sizes[self.own]

    @property
    def start(self):
        return sum(self.sizes[: self.own])

    def shares(self, device):
        """(processes, 1) float64: of the batch's images; no GPU is waited for."""
        least = self.sizes[-1]
        has_more = torch.arange(len(self.sizes), device=device) < sum(self.sizes) % len(self.sizes)
        return (least + has_more.double())[:, None] / sum(self.sizes)


_under_way = None  # the _Part that a network is being run on


def split_across_ranks(forward):
    """A decorator of a module's forward, images (B, ...) -> (B, K), that parts its work."""

    @wraps(forward)
    def parted(model, images):
        global _under_way
        if (
            processes.world_size() == 1 or _under_way or images.is_meta
        ):  # which have nothing to send
            return forward(model, images)
        part = _Part.of(len(images))
        own = _Take.apply(images, part)
        _under_way = part
        try:
            with (
                _whole_batch_statistics(model, part, own.device),
                _own_randomness(model, own.device),
            ):
                logits = _run(model, own)
        finally:
            _under_way = None
        return _Gather.apply(logits, part)

    return parted


def gather_batch(rows):
    """Of what a layer has for its part of a batch (B', ...), that of the batch (B, ...).

    For hooks that look into a network while it runs. It has no gradient.
    """
    return _gathered(rows, _under_way) if _under_way else rows


def _run(model, images):
    if not torch.is_grad_enabled():
        return model(images)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    shared = _Share.apply(*weights.values()) if weights else ()
    return functional_call(model, dict(zip(weights, shared, strict=True)), (images,))


class _Take(Function):
    """Of rows that all processes hold, this one's; for none a row of zeros."""

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
    """The rows of all processes, on all of them."""

    @staticmethod
    def forward(ctx, rows, part):
        ctx.part = part
        return _gathered(rows, part)

    @staticmethod
    def backward(ctx, gradient):
        return _Take.apply(gradient, ctx.part), None


class _Share(Function):
    """Weights as a process uses them for its part: their gradients are summed over all parts.

    One by one they would be many small messages. A weight that the loss does not depend on has no
    gradient on any process.
    """

    @staticmethod
    def forward(ctx, *weights):
        ctx.set_materialize_grads(False)
        return tuple(weight.view_as(weight) for weight in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        there = [gradient for gradient in gradients if gradient is not None]
        total = torch.cat([gradient.reshape(-1) for gradient in there])
        dist.all_reduce(total)
        sums = iter(total.split([gradient.numel() for gradient in there]))
        return tuple(
            None if gradient is None else next(sums).view(gradient.shape) for gradient in gradients
        )


def _gathered(rows, part):
    largest = part.sizes[0]
    padded = rows.new_zeros(largest, *rows.shape[1:])
    padded[: part.size] = rows[: part.size]
    every = [torch.empty_like(padded) for _ in part.sizes]
    dist.all_gather(every, padded)
    return torch.cat([found[:size] for found, size in zip(every, part.sizes, strict=True)])


@contextmanager
def _own_randomness(model, device):
    """Layers draw from a state of this process's own, which the common state gives the seed of."""
    if not any(module.training for module in model.modules()):
        yield
        return
    seed = int(torch.randint(LARGEST_SEED, ()))
    with forked_rng(seed + processes.rank(), device):
        yield


@contextmanager
def _whole_batch_statistics(model, part, device):
    """Batch normalisation that measures meanwhile measures all parts.

    torch's own SyncBatchNorm does the same for GPUs alone, and changes the network for good.
    """
    layers = [each for each in model.modules() if isinstance(each, BATCH_NORMS) and each.training]
    shares = part.shares(device)
    for layer in layers:
        layer.forward = partial(_normalise, layer, part, shares)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalise(layer, part, shares, values):
    """What `layer` gives this part of the values (B, C, ...); its running statistics follow."""
    count = sum(part.sizes) * values[0, 0].numel()
    if count < 2:
        raise ValueError(f"batch normalisation cannot learn from one value: {tuple(values.shape)}")
    normalised, mean, variance = _BatchNorm.apply(
        values, layer.weight, layer.bias, layer.eps, part, shares
    )
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * (count / (count - 1)), layer.momentum)
    return normalised


class _BatchNorm(Function):
    """(values (B, C, ...) of a part, weight, bias) -> (normalised, mean (C,), variance (C,)).

    Mean and biased variance are of all parts, put together from those of each (Chan et al.,
    "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
    """

    @staticmethod
    def forward(ctx, values, weight, bias, eps, part, shares):
        over = [axis for axis in range(values.ndim) if axis != 1]
        own = torch.stack(torch.var_mean(_precise(values), over, correction=0))
        every = [torch.empty_like(own) for _ in part.sizes]
        dist.all_gather(every, own)
        variances, means = torch.stack(every, 1)
        shares = shares.to(own.dtype)
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
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
        if ctx.part.size == 0:  # the black image has moved nothing
            inner = torch.zeros_like(inner)
        by_values = inner * (scale if weight is None else scale * weight).view(shape)
        if weight is None:
            return by_values.to(values.dtype), None, None, None, None, None
        return by_values.to(values.dtype), own[1], own[0], None, None, None


def _precise(values):
    return values.to(torch.promote_types(values.dtype, torch.float32))
