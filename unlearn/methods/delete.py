"""DELETE: distil the original model without the forgotten class, from the forget set alone.

Zhou et al., "Decoupled distillation to erase: a general unlearning method for any class-centric
tasks", CVPR 2025: with z the original model's logits of an image and u the class to forget,

    min E_{x in D_f} [ KL( softmax(z with z_u = -inf) || f(x) ) ]

So the probability of the forgotten class goes to zero while the others keep their proportions, the
"dark knowledge" that protects what is to stay. The teacher's predictions are computed once. The
masked classes are the image's own class and all classes that the request forgets. The retain set is
not used.

The running statistics of batch normalisation stay those of the base model and dropout is off,
because batches of a single class would shift the statistics away from what is to stay; the authors'
code does so for a single class of Tiny ImageNet, and otherwise updates them. It uses SGD at 1e-3,
for 20 epochs on CIFAR-10, where the default here is Adam at 1e-5 for 5 epochs.

The method is made for classes. With single images of classes that stay, the model learns that these
images are not of their own class, which no Retrain would predict, and the class is lost with them:
choose another method for single images.
"""

import torch

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.losses import distillation_loss
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def delete(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Distil the model's own predictions for the other classes on the forget set."""
    targets = masked_probabilities(predict(model, forget_set), forget_set.labels, config.request)

    def plan_epochs(_):
        for _ in range(config.recipe.epochs):
            taught = forget_set.with_labels(targets)
            yield EpochPlan(taught, gradient_step(distillation_loss), update_statistics=False)

    return run_epochs(model, plan_epochs, config)


def masked_probabilities(
    logits: torch.Tensor, labels: torch.Tensor, request: ForgetRequest
) -> torch.Tensor:
    """Return softmax over all classes but the image's own and the forgotten ones: (M, K)."""
    return logits.masked_fill(
        request.excluded_classes(labels, logits.shape[1]), -torch.inf
    ).softmax(1)


METHOD = Method(
    id="DELETE",
    name="Decoupled Distillation",
    run=delete,
    # Adam as in GA: gradients are large at first, and near zero in the end
    recipe=Recipe(5, 1e-5, BATCH_SIZE, optimizer="adam", weight_decay=0.0),
    paper="Zhou et al., CVPR 2025",
    family="distillation",
    summary="distils the base model's own predictions without the forgotten class, from the "
    "forget set alone",
    single_label_only=True,
    allows_batch_of_one=True,
    needs_other_class=True,
)
