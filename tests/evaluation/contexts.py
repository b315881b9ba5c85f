"""Contexts of measures from made-up outputs, without a model."""

from types import SimpleNamespace

import numpy as np
import torch

from evaluation.audit import BASE, MODEL, RETRAIN, Context
from evaluation.outputs import Outputs
from utils.data.datasets import MULTI_CLASS, MULTI_LABEL


def make_outputs(logits, labels, request):
    """Outputs of a split, with features of zeros."""
    members = request.has_requested_class(labels)
    return Outputs(logits, labels, torch.zeros(len(labels), 1), members, members)


def certain_outputs(predicted, labels, request, num_classes=4):
    """Outputs of a model that predicts these classes (N,), or findings (N, K), with certainty."""
    predicted, labels = torch.as_tensor(predicted), torch.as_tensor(labels)
    logits = 2.0 * predicted - 1 if predicted.ndim == 2 else 4 * torch.eye(num_classes)[predicted]
    return make_outputs(logits, labels, request)


def make_context(request, outputs=None, *, title=MODEL, task=None, names=(), **fields):
    """A Context; fields: base, retrain (Contexts), figures, and any other of its fields."""
    test = (outputs or {}).get("test")
    multi_label = test is not None and test.labels.ndim == 2
    names = names or [f"{number} class" for number in range(test.logits.shape[1] if test else 0)]
    dataset = SimpleNamespace(
        task=task or (MULTI_LABEL if multi_label else MULTI_CLASS),
        num_classes=len(names),
        describe_class=lambda number: names[number],
    )
    contexts = {BASE: fields.pop("base", None), RETRAIN: fields.pop("retrain", None)}
    audit = SimpleNamespace(
        contexts={title: part for title, part in contexts.items() if part}, peers=[], retrains=[]
    )
    defaults = {"model": None, "record": {}, "non_members": "val", "seed": 1}
    defaults |= {"costs": None, "groups": None, "figures": {}}
    context = Context(
        title=title,
        outputs=outputs,
        dataset=dataset,
        request=request,
        audit=audit,
        **defaults | fields,
    )
    audit.contexts[title] = context
    return context


def random_predictions(seed, count=200, multi_label=False):
    """(predicted, labels) of four classes, (count,) int, or of four findings, (count, 4)."""
    rng = np.random.default_rng(seed)
    if multi_label:
        return rng.integers(2, size=(2, count, 4))
    return rng.integers(4, size=(2, count))
