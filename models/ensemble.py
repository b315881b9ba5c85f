"""Ensembles of networks: the networks of models that are trained in shards."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Ensemble(nn.Module):
    """Averages the probabilities of its networks.

    forward: pixels -> (N, K) logits: the logarithms of the mean probabilities or, if multi_label,
    the logit of each finding's mean probability. `shards` are the networks, of one architecture.
    """

    def __init__(self, networks: Iterable[nn.Module], multi_label: bool):
        super().__init__()
        self.shards = nn.ModuleList(networks)
        self.multi_label = multi_label

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of pixels (N, C, H, W)."""
        logits = torch.stack([network(pixels) for network in self.shards])
        if logits.dtype == torch.bfloat16:
            logits = logits.float()  # for the sums over networks
        if self.multi_label:
            return _log_mean(functional.logsigmoid(logits)) - _log_mean(
                functional.logsigmoid(-logits)
            )
        return _log_mean(logits.log_softmax(2))


def shard_seed(seed: int, number: int) -> int:
    """Return the seed of shard `number`, which is different for each shard and each `seed`."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0]) >> 1


def _log_mean(logarithms):
    """Return the logarithm of the mean over the first dimension, given logarithms."""
    return logarithms.logsumexp(0) - math.log(len(logarithms))
