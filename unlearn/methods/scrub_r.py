"""SCRUB_R: SCRUB with rewinding to the epoch whose error on the forget set fits unseen images.

Kurmanji et al., "Towards unbounded machine unlearning", NeurIPS 2023. SCRUB+R saves the weights
after each epoch of SCRUB (unlearn/methods/scrub.py) and ends with those whose error on the forget
set is nearest to a reference: the final model's error on unseen images of the same kind. Of several
nearest epochs it takes the last.

For a request of classes these are validation images of the classes to forget. The final model errs
on nearly all of them, so the reference requires complete forgetting. For single images of all
classes the reference is the model's ordinary error, and rewinding keeps forgotten images from
standing out. Without any such image the last epoch stays, as in SCRUB.

Until the reference is known any epoch may be the nearest, so the weights of all are held in memory.
"""

import copy
from collections.abc import Iterable, Mapping

import torch

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import Method
from unlearn.methods.scrub import OPTIONS, RECIPE, scrub, train_student
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.prediction import predict


def scrub_with_rewinding(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Run SCRUB, then load the weights of the epoch that fits the reference error best."""
    if not config.matching_val:
        return scrub(model, forget_set, retain_set, config)
    saved = []

    def save_weights():
        weights = copy.deepcopy(model.state_dict())
        saved.append((error_rate(model, forget_set, config.request), weights))

    model = train_student(model, forget_set, retain_set, config, save_weights)
    reference = error_rate(model, config.matching_val, config.request)
    model.load_state_dict(nearest_weights(saved, reference))
    return model


def error_rate(model: Classifier, image_set: ImageSet, request: ForgetRequest) -> float:
    """Return the fraction of images, 0 to 1, whose predictions for the request are wrong."""
    correct = request.correct_fraction(predict(model, image_set), image_set.labels)
    return 1 - correct.mean().item()


def nearest_weights(
    saved: Iterable[tuple[float, Mapping[str, torch.Tensor]]], reference: float
) -> Mapping[str, torch.Tensor]:
    """Return the weights of the (error, weights) pair nearest to `reference`, or the last such."""
    return min(reversed(list(saved)), key=lambda pair: abs(pair[0] - reference))[1]


METHOD = Method(
    id="SCRUB_R",
    name="SCRUB with Rewinding",
    run=scrub_with_rewinding,
    recipe=RECIPE,
    paper="Kurmanji et al., NeurIPS 2023",
    family="distillation",
    summary="SCRUB, rewound to the epoch whose error on the forget set is nearest to that "
    "on unseen images",
    options=OPTIONS,
)
