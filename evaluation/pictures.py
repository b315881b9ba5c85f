"""Pictures of a model beside its base model and Retrain, from their outputs."""

import numpy as np
import torch
from sklearn.decomposition import PCA

from evaluation.audit import BASE, MODEL
from evaluation.metrics.destinations import destinations
from evaluation.metrics.membership import membership_scores
from evaluation.outputs import sets_of
from unlearn.saliency import mask_from_percentiles
from utils.plots.bars import forgotten_destinations, saliency_by_layer
from utils.plots.before_after import (
    confidence_histograms,
    confusion_before_and_after,
    feature_map,
)
from utils.train.metrics import confusion_counts

MAPPED = 1500  # images; more hide each other
MAPPED_FORGOTTEN = 400  # of them, at most
_SIDES = {  # of multi-label images, by how many findings are to be forgotten
    0: ("kept", "to be forgotten"),
    1: ("without the finding", "with the finding"),
    2: ("without the findings", "with one of them"),
}


def before_and_after(outputs, dataset, request, heading, seed=1):
    """Figures by file name.

    outputs: as evaluation.audit.Audit has them; each model is a panel.
    """
    # a model that has no base model is one, or has lost it
    name = "unlearned model" if BASE in outputs else MODEL
    panels = {name if title == MODEL else title: parts for title, parts in outputs.items()}
    figures = {
        "confidence": confidence_histograms(
            {title: _confidences(parts, request) for title, parts in panels.items()},
            f"{heading}: confidence",
        ),
        "features": _feature_map(panels, dataset, request, heading, seed),
    }
    base, model = (outputs.get(title) for title in (BASE, MODEL))
    if not dataset.is_multi_label:
        figures["confusion_before_after"] = confusion_before_and_after(
            *(
                parts and confusion_counts(parts["test"].logits, parts["test"].labels)
                for parts in (base, model)
            ),
            dataset.class_names,
            f"{heading}: test images",
            request.classes,
        )
    shares = [parts and destinations(parts["train"]) for parts in (base, model)]
    if shares[1]:
        figures["forgotten"] = forgotten_destinations(
            *(share and [100 * part for part in share] for share in shares),
            dataset.class_names,
            request.classes,
            f"{heading}: training images",
        )
    return figures


def layer_saliency(percents, heading, threshold):
    """The Figure of how much of each layer the mask at `threshold` takes in."""
    mask = mask_from_percentiles(percents, threshold).changeable
    layers = {name.removeprefix("network."): part for name, part in mask.items() if part.ndim > 1}
    shares = [100 * part.float().mean().item() for part in layers.values()]
    return saliency_by_layer(list(layers), shares, f"{heading}, mask {threshold:g}")


def _confidences(outputs, request):
    return {
        f"{name} set": membership_scores(*request.scored_logits(part.logits, part.labels))[
            "confidence"
        ]
        for name, part in sets_of(outputs).items()
    }


def _feature_map(panels, dataset, request, heading, seed):
    """Training images, because the forget set is among them; each panel has its own components."""
    labels, covered = dataset.train.labels.cpu(), request.in_forget_set(dataset, "train").cpu()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    forgotten = covered[order]
    some = order[forgotten][:MAPPED_FORGOTTEN]  # a rare class too is to be seen
    chosen = torch.cat([some, order[~forgotten][: MAPPED - len(some)]])
    labels = labels[chosen]
    points, explained = {}, {}
    for title, parts in panels.items():
        pca = PCA(2, random_state=seed)
        points[title] = pca.fit_transform(parts["train"].features[chosen].numpy())
        explained[title] = tuple(pca.explained_variance_ratio_)
    forgotten = covered[chosen].numpy()
    names = dataset.class_names
    if labels.ndim == 2:  # an image can have several findings: only what is forgotten is told
        labels, names = forgotten.astype(int), _SIDES[min(2, len(request.classes))]
    return feature_map(
        points, np.asarray(labels), names, f"{heading}: training images", forgotten, explained
    )
