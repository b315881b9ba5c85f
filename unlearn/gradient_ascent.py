"""GA: gradient ascent on the forget set.

Graves et al., "Amnesiac machine learning", AAAI 2021; Thudi et al., "Unrolling SGD", EuroS&P 2022:
maximise E_{(x, y) in D_f} [ CE(f(x), y) ]. The retain set is not looked at.

The running statistics of batch normalisation stay the base model's: batches of a single class
would pull them away from what the retained classes need, which harms them more than the ascent.
Cross entropy has no upper bound, so the rate and the number of epochs are what ends the ascent.
"""

from unlearn.descent import descend


def gradient_ascent(model, forget_set, retain_set, config):
    """Raise the loss of what is to be forgotten."""

    def ascent(logits, labels):
        return -config.request.loss(logits, labels)

    return descend(model, lambda generator: forget_set, ascent, config, update_statistics=False)
