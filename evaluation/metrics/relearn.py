"""Relearn time: how soon a model knows the forget set again once it may look at it.

Golatkar et al., "Eternal sunshine of the spotless net", CVPR 2020; Chundawat et al., "Zero-shot
machine unlearning", 2023: a model that only hides what it knows has it back in a few steps, one
that never saw it needs as many as Retrain.
"""

import copy

import torch
from tqdm import tqdm

from evaluation.figure import Figure, undefined
from utils.train.prediction import predict
from utils.train.training import shuffled_batches

KNOWN = 0.95  # accuracy on the forget set from which it counts as known again
BATCH_SIZE = 50
LR = 2e-4  # small, so that what is only hidden and what is gone differ in steps
MOMENTUM = 0.9
MOST_STEPS = 1000
JUDGED = 500  # images of the forget set that are asked once a batch was known


def relearn_steps(model, forget_set, request, seed=1):
    """Steps of fine-tuning on the forget set until it is known again; 0 if it is already.

    That is when KNOWN of the next batch are recognised before its step, and KNOWN of the forget
    set (of JUDGED images, if it has more). SGD at LR, batch normalisation as in evaluation, so that
    what counts are the weights. The model is left as it was. Undefined after MOST_STEPS, and
    without images. A model in shards takes long: each network gets its share of the gradient only,
    so that it takes more steps, and each step is one of all networks.
    """
    if len(forget_set) == 0:
        return undefined("no training image of the request")
    generator = torch.Generator().manual_seed(seed)
    judged = forget_set.subset(torch.randperm(len(forget_set), generator=generator)[:JUDGED])
    learner = copy.deepcopy(model).eval()
    optimizer = torch.optim.SGD(learner.parameters(), LR, momentum=MOMENTUM)
    count = tqdm(range(MOST_STEPS + 1), "relearning", leave=False, unit="step", disable=None)
    taken = zip(count, _endless_batches(forget_set, generator), strict=False)
    for steps, (images, labels) in taken:
        logits = learner(images)
        if _is_known(logits.detach(), labels, request) and _is_known(
            predict(learner, judged), judged.labels, request
        ):
            return Figure(steps)
        loss = request.losses(logits, labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return undefined(f"not known again after {MOST_STEPS} steps")


def _endless_batches(image_set, generator):
    while True:
        for positions in shuffled_batches(len(image_set), BATCH_SIZE, generator, image_set.device):
            yield image_set.batch(positions)


def _is_known(logits, labels, request):
    return request.correct_fraction(logits, labels).float().mean() >= KNOWN
