"""RL: random labelling.

Golatkar et al., "Eternal sunshine of the spotless net", CVPR 2020, with the retain set kept in
training, as in SalUn (Fan et al., ICLR 2024, eq. 5): minimise

    E_{x in D_f, y' != y} [ CE(f(x), y') ] + alpha E_{(x, y) in D_r} [ CE(f(x), y) ]

Both sets are shuffled together, so each image has the same weight and alpha is |D_r| / |D_f| up to
a common factor. y' is drawn in each epoch from other classes only, as in the equation, and never
from another class that is to be forgotten. Code that draws from all classes gives some images their
true label.
"""

import torch

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def random_label(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train on the forget set with random wrong labels, together with the retain set."""
    num_classes = model.spec.num_classes

    def plan_epochs(generator):
        for _ in range(config.recipe.epochs):
            wrong = draw_wrong_labels(forget_set.labels, num_classes, config.request, generator)
            mixed = forget_set.with_labels(wrong).concat(retain_set)
            yield EpochPlan(mixed, gradient_step(classification_loss))

    return run_epochs(model, plan_epochs, config)


def draw_wrong_labels(
    labels: torch.Tensor, num_classes: int, request: ForgetRequest, generator: torch.Generator
) -> torch.Tensor:
    """Return labels drawn uniformly from the kept classes other than an image's own.

    labels: (M,) int64 -> (M,) int64. Multi-label, (M, K): each finding of the request that an image
    has is set to 0, and equally many of the others, drawn uniformly, are set to 1; the rest stays.
    """
    if labels.ndim == 2:
        return _swapped_findings(labels, num_classes, request, generator)
    kept = set(request.kept_classes(num_classes))
    own_classes, rows = labels.cpu().unique(return_inverse=True)
    others = (
        [(own + step) % num_classes for step in range(1, num_classes)]
        for own in own_classes.tolist()
    )
    # each row has equally many choices: either all classes of the forget set are kept, or none
    table = torch.tensor([[number for number in row if number in kept] for row in others])
    drawn = torch.randint(0, table.shape[1], (len(labels),), generator=generator)
    return table[rows, drawn].to(labels.device)


def _swapped_findings(labels, num_classes, request, generator):
    kept = request.kept_classes(num_classes)
    present = torch.zeros_like(labels, dtype=torch.bool)
    about = request.findings(num_classes)
    present[:, about] = labels[:, about].bool()
    wrong = labels.masked_fill(present, 0)
    if len(request.classes) == 1:  # one draw per image
        step = torch.randint(1, num_classes, (len(labels),), generator=generator)
        drawn = ((request.classes[0] + step) % num_classes).to(labels.device)
        wrong[torch.arange(len(wrong), device=wrong.device), drawn] = 1
        return wrong
    free = torch.zeros_like(present)
    free[:, kept] = ~present[:, kept]
    # an image without any finding gets one, or its label would be the true one
    wanted = present.sum(1, keepdim=True).clamp(min=1)
    order = torch.rand(labels.shape, generator=generator).to(labels.device)
    ranks = order.masked_fill(~free, -1).argsort(1, descending=True).argsort(1)
    return wrong.masked_fill(free & (ranks < wanted), 1)


METHOD = Method(
    id="RL",
    name="Random Labeling",
    run=random_label,
    recipe=Recipe(5, 0.01, BATCH_SIZE),
    paper="Golatkar et al., CVPR 2020",
    family="other labels",
    summary="trains on the forget set with random wrong labels, drawn again in each epoch, and on "
    "the retain set",
    needs_other_class=True,
)
