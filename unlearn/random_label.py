"""RL: random labelling.

Golatkar et al., "Eternal sunshine of the spotless net", CVPR 2020, with the retain set kept in
training, as SalUn has it (Fan et al., ICLR 2024, eq. 5): minimise

    E_{x in D_f, y' != y} [ CE(f(x), y') ] + alpha E_{(x, y) in D_r} [ CE(f(x), y) ]

Both sets are shuffled together, so each image weighs the same and alpha is |D_r| / |D_f| up to a
common factor. y' is drawn afresh each epoch and from the other classes only, as the equation says;
code that draws from all classes gives some images their true label.
"""

import torch

from unlearn.descent import Pass, descend
from utils.losses import classification_loss
from utils.training import gradient_step


def random_label(model, forget_set, retain_set, config):
    """Train on the forget set under random wrong labels, together with the retain set."""

    def passes(generator):
        for _ in range(config.recipe.epochs):
            wrong = draw_wrong_labels(
                forget_set.labels, model.spec.num_classes, config.request, generator
            )
            mixed = forget_set.with_labels(wrong).joined(retain_set)
            yield Pass(mixed, gradient_step(classification_loss))

    return descend(model, passes, config)


def draw_wrong_labels(labels, num_classes, request, generator):
    """Labels drawn uniformly from the other classes; each of them equally likely.

    labels: (M,) int64 -> (M,) int64. Multi-label, (M, K): the finding to forget is switched off
    and one of the K - 1 others, drawn uniformly, switched on; the rest stays as it is.
    """
    true = torch.full((len(labels),), request.class_index) if labels.ndim == 2 else labels.cpu()
    step = torch.randint(1, num_classes, (len(labels),), generator=generator)
    drawn = ((true + step) % num_classes).to(labels.device)
    if labels.ndim == 1:
        return drawn
    wrong = labels.clone()
    wrong[:, request.class_index] = 0
    wrong[torch.arange(len(wrong), device=wrong.device), drawn] = 1
    return wrong
