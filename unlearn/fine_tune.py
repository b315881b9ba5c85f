"""FT: fine-tuning on the retain set only, so that the rest fades (catastrophic forgetting).

Warnecke et al., "Machine unlearning of features and labels", NDSS 2023; Golatkar et al., CVPR 2020:
minimise E_{(x, y) in D_r} [ CE(f(x), y) ] from the base model's weights.
"""

from unlearn.descent import descend
from utils.losses import classification_loss


def fine_tune(model, forget_set, retain_set, config):
    """Go on training on the retain set; the forget set is not looked at."""
    return descend(model, lambda generator: retain_set, classification_loss, config)
