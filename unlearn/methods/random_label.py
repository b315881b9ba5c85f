"""RL: random labelling.

Golatkar et al., "Eternal sunshine of the spotless net", CVPR 2020, with the retain set kept in
training, as SalUn has it (Fan et al., ICLR 2024, eq. 5): minimise

    E_{x in D_f, y' != y} [ CE(f(x), y') ] + alpha E_{(x, y) in D_r} [ CE(f(x), y) ]

Both sets are shuffled together, so each image weighs the same and alpha is |D_r| / |D_f| up to a
common factor. y' is drawn afresh each epoch and from other classes only, as the equation says, and
from none that is to be forgotten as well; code that draws from all classes gives some images their
true label.
"""

import torch

from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def random_label(model, forget_set, retain_set, config):
    """Train on the forget set under random wrong labels, together with the retain set."""
    num_classes = model.spec.num_classes

    def passes(generator):
        for _ in range(config.recipe.epochs):
            wrong = draw_wrong_labels(forget_set.labels, num_classes, config.request, generator)
            mixed = forget_set.with_labels(wrong).concat(retain_set)
            yield EpochPlan(mixed, gradient_step(classification_loss))

    return run_epochs(model, passes, config)


def draw_wrong_labels(labels, num_classes, request, generator):
    """Labels of covered images drawn uniformly from the kept classes that are not their own.

    labels: (M,) int64 -> (M,) int64. Multi-label, (M, K): each finding that the request is about
    and that the image has is switched off, and as many of the others, drawn uniformly, switched
    on; the rest stays as it is.
    """
    if labels.ndim == 2:
        return _swapped_findings(labels, num_classes, request, generator)
    kept = set(request.kept_classes(num_classes))
    own_classes, rows = labels.cpu().unique(return_inverse=True)
    others = (
        [(own + step) % num_classes for step in range(1, num_classes)]
        for own in own_classes.tolist()
    )
    # as many choices for each of them: either all classes of the forget set are kept, or none is
    table = torch.tensor([[number for number in row if number in kept] for row in others])
    drawn = torch.randint(0, table.shape[1], (len(labels),), generator=generator)
    return table[rows, drawn].to(labels.device)


def _swapped_findings(labels, num_classes, request, generator):
    kept = request.kept_classes(num_classes)
    present = torch.zeros_like(labels, dtype=torch.bool)
    about = request.findings(num_classes)
    present[:, about] = labels[:, about].bool()
    wrong = labels.masked_fill(present, 0)
    if len(request.classes) == 1:  # one of the others, one draw an image
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
