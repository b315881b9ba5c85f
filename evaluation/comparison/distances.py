"""JS ratios of all methods of a comparison on one base model, from the kept outputs.

All methods have the same Retrains and the same resamples of the images, so that they can be
compared in pairs, and each is drawn once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evaluation.comparison.ranks import Estimate
from evaluation.figure import Figure
from evaluation.measure import SETS
from evaluation.metrics.ratio import FLOOR, left_out_figure, ratio_figure
from evaluation.retrains.pairwise import js_divergences
from evaluation.retrains.relative import (
    Distances,
    distance_interval,
    mean_between,
    measure_distances,
)
from evaluation.settings import MIN_RETRAINS

CHUNK_VALUES = 1_000_000  # logits that are turned to float64 probabilities together

Sets = Mapping[str, torch.Tensor]  # the (N, K) logits of a model by the names of SETS


@dataclass(frozen=True)
class SetDistances:
    """Distances on one set of images.

    figures: name of a method -> its ratio. estimates: its distance. by_model: the ratio of each of
    its models. retrain: the ratio of each Retrain to the others, see left_out_figure; None with
    fewer than three Retrains. floored: whether the floor is the denominator.
    """

    figures: dict[str, Figure]
    estimates: dict[str, Estimate]
    by_model: dict[str, list[float]]
    retrain: Figure | None
    floored: bool


def compute_distances(
    load: Callable[[str], Sets],
    methods: Mapping[str, Sequence[str]],
    retrains: Sequence[str],
    multi_label: bool,
) -> dict[str, SetDistances]:
    """Return the SetDistances by the names of SETS, without those that have no image.

    load: returns the outputs of a model. methods: name -> ids of its models. retrains: ids of the
    Retrains; fewer than MIN_RETRAINS give an empty dict.

    The memory is bounded by the outputs of the Retrains and of one model (4 bytes for each image,
    class and model), and by one float64 for each image and method: no two methods' outputs are in
    memory together.
    """
    if len(retrains) < MIN_RETRAINS:
        return {}
    references = [load(each) for each in retrains]
    names = [name for name in SETS if len(references[0][name])]
    by_image = {name: {} for name in names}
    for method, ids in methods.items():
        rows = {name: [] for name in names}
        for model_id in ids:
            outputs = load(model_id)
            for name in names:
                pairs = [_js(outputs[name], each[name], multi_label) for each in references]
                rows[name].append(np.mean(pairs, 0))
        for name in names:
            by_image[name][method] = np.mean(rows[name], 0), [row.mean() for row in rows[name]]
    return {
        name: _set_distances(
            f"js_ratio_{name}",
            by_image[name],
            _pairs([each[name] for each in references], multi_label),
            len(references),
        )
        for name in names
    }


def _set_distances(key, methods, pairs, count):
    """methods: name -> ((N,) distances, mean of each model). pairs: (P, N) of count Retrains."""
    stacked = np.concatenate([pairs, *(row[None] for row, _ in methods.values())])
    (measured,) = measure_distances([lambda weights: weights @ stacked.T], stacked.shape[1])
    among = Distances(*(_square(part[..., : len(pairs)], count) for part in measured))
    denominator = max(mean_between(among.observed), FLOOR)
    figures, estimates = {}, {}
    for place, (method, (_, means)) in enumerate(methods.items(), len(pairs)):
        own = Distances(*(part[..., place] for part in measured))
        figures[method] = ratio_figure(key, own, among, len(means))
        # by the models alone: images are resampled in pairs of methods
        low, high = distance_interval(float(own.observed), among.observed, len(means))
        estimates[method] = Estimate(
            float(own.observed), own.resampled, low, high, figures[method].value
        )
    return SetDistances(
        figures,
        estimates,
        {method: [mean / denominator for mean in means] for method, (_, means) in methods.items()},
        left_out_figure(key, among) if count > MIN_RETRAINS else None,
        bool(mean_between(among.observed) < FLOOR),
    )


def _square(pairs, count):
    """(..., P) distances of pairs -> (..., R, R)."""
    rows, columns = np.triu_indices(count, 1)
    square = np.zeros((*pairs.shape[:-1], count, count))
    square[..., rows, columns] = pairs
    return square + np.swapaxes(square, -1, -2)


def _pairs(outputs, multi_label):
    """(P, N) distances of the pairs of Retrains, in the order of np.triu_indices."""
    rows, columns = np.triu_indices(len(outputs), 1)
    return np.array(
        [_js(outputs[i], outputs[j], multi_label) for i, j in zip(rows, columns, strict=True)]
    )


def _js(logits, others, multi_label):
    size = max(1, CHUNK_VALUES // logits.shape[1])
    chunks = zip(logits.split(size), others.split(size), strict=True)
    return np.concatenate([js_divergences(ours, theirs, multi_label) for ours, theirs in chunks])
