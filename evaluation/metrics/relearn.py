"""Relearn time: in how many steps of fine-tuning does a model learn the forget set again?

Golatkar et al., "Eternal sunshine of the spotless net", CVPR 2020; Chundawat et al., "Zero-shot
machine unlearning", 2023: a model that only hides what it knows relearns it in a few steps, one
that never saw the forget set needs as many as Retrain.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from evaluation.figure import Figure, undefined
from evaluation.measure import Measure, Row
from utils.train.prediction import predict
from utils.train.training import shuffled_batches

if TYPE_CHECKING:
    from torch import nn

    from evaluation.audit import Context
    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import ImageSet

KNOWN = 0.95  # accuracy on the forget set from which it counts as learned
BATCH_SIZE = 50
LR = 2e-4  # low, so that hidden and erased knowledge differ in steps
MOMENTUM = 0.9
MAX_STEPS = 1000
CHECKED_IMAGES = 500  # of the forget set, predicted after a batch that is known


def compute(context: Context) -> dict[str, Figure]:
    """Return the steps of any model, as Figures by key."""
    forget_set, _ = context.request.split(context.dataset, "train")
    steps = relearn_steps(context.model, forget_set, context.request, context.seed)
    return {"relearn_steps": steps}


def relearn_steps(
    model: nn.Module, forget_set: ImageSet, request: ForgetRequest, seed: int = 1
) -> Figure:
    """Return the steps of fine-tuning on the forget set until the model knows it; 0 if it does.

    It does if it recognises a fraction KNOWN of the next batch before its step, and of the forget
    set (of CHECKED_IMAGES images, if it has more). SGD at LR, batch normalisation as in evaluation,
    so that only the weights count. `model` is not changed. Undefined after MAX_STEPS, and without
    images. A model in shards needs more steps, because each network gets only its fraction of the
    gradient, and each step takes longer, because it is one of all networks.
    """
    if len(forget_set) == 0:
        return undefined("no training image of the request")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(forget_set), generator=generator)
    checked = forget_set.subset(order[:CHECKED_IMAGES])
    learner = copy.deepcopy(model).eval()
    optimizer = torch.optim.SGD(learner.parameters(), LR, momentum=MOMENTUM)
    count = tqdm(range(MAX_STEPS + 1), "relearning", leave=False, unit="step", disable=None)
    numbered = zip(count, _endless_batches(forget_set, generator), strict=False)
    for steps, (images, labels) in numbered:
        logits = learner(images)
        if _is_known(logits.detach(), labels, request) and _is_known(
            predict(learner, checked), checked.labels, request
        ):
            return Figure(steps)
        loss = request.losses(logits, labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return undefined(f"not relearned after {MAX_STEPS} steps")


def _endless_batches(image_set, generator):
    while True:
        for positions in shuffled_batches(len(image_set), BATCH_SIZE, generator, image_set.device):
            yield image_set.batch(positions)


def _is_known(logits, labels, request):
    return request.correct_fraction(logits, labels).float().mean() >= KNOWN


MEASURE = Measure(
    name="relearn time",
    group="inside",
    explanation="The knowledge is still in the weights if the model relearns the forget set in "
    "many fewer steps than Retrain.",
    compute=compute,
    rows=(Row("relearn_steps", f"steps to relearn {100 * KNOWN:g}% of the forget set"),),
)
