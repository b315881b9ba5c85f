"""CF_k: catastrophic forgetting in the last k layers.

Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, "Towards adversarial evaluations for inexact machine
unlearning", 2022: freeze all layers but the last k and continue to train these on the retain set,
from the base model's weights, minimising E_{(x, y) in D_r} [ CE(f(x), y) ], so that their knowledge
of the forget set fades. If k is the number of layers of the network, this is fine-tuning.
unlearn/components/last_layers.py defines what a layer is.
"""

from models.architectures import Classifier
from unlearn.components.last_layers import OPTIONS, train_last_layers
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import BATCH_SIZE, Method
from utils.data.datasets import ImageSet
from utils.train.recipe import Recipe


def fine_tune_last_layers(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Fine-tune the last layers on the retain set; the forget set is not used."""
    return train_last_layers(model, retain_set, config)


METHOD = Method(
    id="CF_k",
    name="Fine tuning of the last k layers",
    run=fine_tune_last_layers,
    recipe=Recipe(3, 0.03, BATCH_SIZE),
    paper="Goel et al., 2022",
    family="fine-tuning",
    summary="trains the last k layers on the retain set; the other layers stay bitwise identical",
    needs_last_layer=True,
    options=OPTIONS,
)
