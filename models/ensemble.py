"""Several networks that answer as one: what a model trained in shards is made of."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Ensemble(nn.Module):
    """The mean of the probabilities of its networks, as logits.

    forward: pixels -> (N, K) logits. With several classes to choose from they are the logarithms of
    the mean probabilities; multi_label: of each finding, the logit of its mean probability. The
    networks are `shards`, in order, and have the same shape.
    """

    def __init__(self, networks, multi_label):
        super().__init__()
        self.shards = nn.ModuleList(networks)
        self.multi_label = multi_label

    def forward(self, pixels):
        logits = torch.stack([network(pixels) for network in self.shards])
        if logits.dtype == torch.bfloat16:
            logits = logits.float()  # for the sums over networks
        if self.multi_label:
            return _log_mean(functional.logsigmoid(logits)) - _log_mean(
                functional.logsigmoid(-logits)
            )
        return _log_mean(logits.log_softmax(2))


def shard_seed(seed, number):
    """The seed of a shard's network, from that of the whole: no two shards or seeds share one."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0]) >> 1


def _log_mean(logarithms):
    """Of numbers given by their logarithms, over the first dimension."""
    return logarithms.logsumexp(0) - math.log(len(logarithms))
