"""CF_k: catastrophic forgetting in the last k layers.

Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, "Towards adversarial evaluations for inexact machine
unlearning", 2022: freeze all layers but the last k and go on training these from the base model's
weights on the retain set alone, minimising E_{(x, y) in D_r} [ CE(f(x), y) ], so that what they
know of the forget set fades. With as many layers as the network has it is fine-tuning. What a
layer is: unlearn/last_layers.py.
"""

from unlearn.components.last_layers import train_last_layers


def fine_tune_last_layers(model, forget_set, retain_set, config):
    """Fine-tune the last layers on the retain set; the forget set is not looked at."""
    return train_last_layers(model, retain_set, config)
