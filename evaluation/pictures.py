"""Pictures of a model next to its base model and Retrain, from their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.decomposition import PCA

from evaluation.audit import BASE, MODEL
from evaluation.measure import SETS
from evaluation.metrics.destinations import destinations
from evaluation.metrics.membership import membership_scores
from evaluation.metrics.ratio import MIN_LEFT_OUT, comparable_sets, left_out_figures
from evaluation.outputs import sets_of
from utils.plots.bars import forgotten_destinations, saliency_by_layer
from utils.plots.before_after import (
    confidence_histograms,
    confusion_before_and_after,
    feature_map,
)
from utils.plots.ratios import relative_distances
from utils.train.metrics import confusion_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evaluation.audit import Audit
    from evaluation.outputs import Outputs
    from unlearn.request.request import ForgetRequest
    from unlearn.saliency import SaliencyMap
    from utils.data.datasets import MedicalDataset

MAPPED = 1500  # images of a feature map; more would hide each other
MAPPED_FORGOTTEN = 400  # of them, at most
_SIDES = {  # names of the two kinds of multi-label images, by the number of forgotten findings
    0: ("kept", "to be forgotten"),
    1: ("without the finding", "with the finding"),
    2: ("without the findings", "with one of them"),
}


def before_and_after(
    outputs: Mapping[str, Mapping[str, Outputs]],
    dataset: MedicalDataset,
    request: ForgetRequest,
    heading: str,
    seed: int = 1,
) -> dict[str, Figure]:
    """Return pictures by file name, without folder and extension.

    outputs: as evaluation.audit.Audit has them; each model is a panel. seed: of the images that
    are mapped.
    """
    # without a base model, the tested model is one itself, or its base model is missing
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
    fractions = [parts and destinations(parts["train"]) for parts in (base, model)]
    if fractions[1]:
        figures["forgotten"] = forgotten_destinations(
            *(each and [100 * fraction for fraction in each] for each in fractions),
            dataset.class_names,
            request.classes,
            f"{heading}: training images",
        )
    return figures


def distances_from_retrain(
    audit: Audit, seeds: Sequence[int | None], heading: str
) -> Figure | None:
    """Return the picture of JS ratios, a panel for each set; None if they were not measured.

    seeds: of the Retrains. Each of them is compared with the others, if there are enough.
    """
    keys = {name: f"js_ratio_{name}" for name in SETS}
    model = audit.contexts[MODEL]
    if not any(key in model.figures and model.figures[key].is_defined for key in keys.values()):
        return None
    rows = [(MODEL, model.figures, "method")]
    if model.base:
        rows.insert(0, (BASE, model.base.figures, "base"))
    retrains = model.retrains()
    if len(retrains) >= MIN_LEFT_OUT:
        sets = [comparable_sets(each) for each in retrains]
        left_out = left_out_figures(sets, model.seed, tuple(keys.values()))
        rows += [
            (f"Retrain, seed {seed}", figures, "reference")
            for seed, figures in zip(seeds, left_out, strict=True)
        ]
    panels = {
        f"{name} set": [_ratio_row(title, figures[key], role) for title, figures, role in rows]
        for name, key in keys.items()
    }
    return relative_distances(panels, f"{heading}: distance from Retrain, JS ratio")


def layer_saliency(saliency_map: SaliencyMap, heading: str, threshold: float) -> Figure:
    """Return the picture of the percentage of each layer that the mask at `threshold` contains.

    Where the zeros of the map are known, it also shows the percentage of each layer without a
    gradient.
    """
    mask, zeros = saliency_map.mask(threshold).changeable, saliency_map.zeros
    layers = {name: part for name, part in mask.items() if part.ndim > 1}
    return saliency_by_layer(
        [name.removeprefix("network.") for name in layers],
        [100 * part.float().mean().item() for part in layers.values()],
        zeros and [100 * zeros[name] / part.numel() for name, part in layers.items()],
        f"{heading}, mask {threshold:g}",
    )


def _ratio_row(title, figure, role):
    return {
        "name": title,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "role": role,
    }


def _confidences(outputs, request):
    return {
        f"{name} set": membership_scores(*request.scored_logits(part.logits, part.labels))[
            "confidence"
        ]
        for name, part in sets_of(outputs).items()
    }


def _feature_map(panels, dataset, request, heading, seed):
    """Training images, which include the forget set; each panel has its own components."""
    labels, covered = dataset.train.labels.cpu(), request.in_forget_set(dataset, "train").cpu()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    forgotten = covered[order]
    some = order[forgotten][:MAPPED_FORGOTTEN]  # enough to see a rare class
    chosen = torch.cat([some, order[~forgotten][: MAPPED - len(some)]])
    labels = labels[chosen]
    points, explained = {}, {}
    for title, parts in panels.items():
        pca = PCA(2, random_state=seed)
        points[title] = pca.fit_transform(parts["train"].features[chosen].numpy())
        explained[title] = tuple(pca.explained_variance_ratio_)
    forgotten = covered[chosen].numpy()
    names = dataset.class_names
    if labels.ndim == 2:  # an image can have several findings: only forgotten ones are named
        labels, names = forgotten.astype(int), _SIDES[min(2, len(request.classes))]
    return feature_map(
        points, np.asarray(labels), names, f"{heading}: training images", forgotten, explained
    )
