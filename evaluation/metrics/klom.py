"""KLOM: how far the outputs of a method are from those of Retrain over several seeds.

Georgiev et al., "Attribute-to-Delete: machine unlearning via datamodel matching", ICLR 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluation.figure import Figure, undefined
from evaluation.measure import SETS, Measure, Row
from evaluation.outputs import sets_of

if TYPE_CHECKING:
    from evaluation.audit import Context

PERCENTILE = 95  # of the images
MIN_MODELS = 3  # of each kind, for a spread over seeds
BINNED_FROM = 100  # models of each kind, as in the paper; with fewer a histogram is mostly empty
BINS = 20
MIN_PROPORTION = 1e-5  # of a bin that is empty in the second histogram
MAX_MARGIN = 100.0
MIN_SPREAD = 1e-3  # nats; identical models have none at all
CHANCE_MARGINS = 1_000_000  # of each kind of model that a simulation draws at most


def compute(context: Context) -> dict[str, Figure]:
    """Return KLOM of the tested method and, for Retrain, that of models that do not differ.

    It needs MIN_MODELS models of the method and as many Retrains, of different seeds.
    """
    audit = context.audit
    if context.retrain is None or not audit.peers:
        return {}
    counts = 1 + len(audit.peers), len(audit.retrains)
    why = too_few_models(*counts)
    if why:
        return {f"klom_{name}_nats": undefined(why) for name in SETS} if context.is_tested else {}
    if context.is_retrain:
        return klom_by_chance(*counts, SETS)
    if not context.is_tested:
        return {}
    ours = [set_margins(each) for each in (context, *context.peers())]
    theirs = [set_margins(each) for each in context.retrains()]
    return klom_figures(ours, theirs)


def too_few_models(models: int, retrains: int) -> str | None:
    """Return why these numbers of models of a method and of Retrains are too small, or None."""
    if min(models, retrains) >= MIN_MODELS:
        return None
    return f"{models} models and {retrains} Retrains, and the minimum is {MIN_MODELS} of each"


def set_margins(context: Context) -> dict[str, np.ndarray]:
    """Return the (N,) margins of a model for the images of each set, by the names of SETS."""
    return {
        name: margins(*context.request.scored_logits(part.logits, part.labels))
        for name, part in sets_of(context.outputs).items()
    }


def margins(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return log(p_y / (1 - p_y)) of each image: (N,) float64, from (N, K) logits, (N,) labels."""
    logits, own = torch.as_tensor(logits).double(), torch.as_tensor(labels)[:, None]
    others = logits.scatter(1, own, -torch.inf).logsumexp(1)
    return (logits.gather(1, own)[:, 0] - others).numpy()


def klom_figures(
    model_margins: Sequence[dict[str, np.ndarray]], retrain_margins: Sequence[dict[str, np.ndarray]]
) -> dict[str, Figure]:
    """Return KLOM of several models and several Retrains, Figures by key.

    Both: the set_margins of each model. A figure is that of the image at the PERCENTILE of its set,
    because most images are not affected by the forget set.
    """
    figures = {}
    for name in model_margins[0]:
        groups = [
            np.array([each[name] for each in group]) for group in (model_margins, retrain_margins)
        ]
        key = f"klom_{name}_nats"
        if groups[0].shape[1] == 0:
            figures[key] = undefined("no image")
        else:
            figures[key] = Figure(float(np.percentile(klom(*groups), PERCENTILE)))
    return figures


def klom_by_chance(
    models: int, retrains: int, names: Iterable[str], seed: int = 1
) -> dict[str, Figure]:
    """Return by simulation what klom_figures gives for as many models that do not differ.

    The margins of each image are drawn from the standard normal distribution, because the
    divergence does not depend on their mean and spread. With few models it is far from 0.
    """
    rng = np.random.default_rng(seed)
    images = CHANCE_MARGINS // max(models, retrains)  # with few models the tail is long
    groups = [rng.normal(size=(count, images)) for count in (models, retrains)]
    value = Figure(float(np.percentile(klom(*groups), PERCENTILE)))
    return {f"klom_{name}_nats": value for name in names}


def klom(unlearned_margins: np.ndarray, retrain_margins: np.ndarray) -> np.ndarray:
    """Return the KL divergence of the margins of each image: (N,) float64, in nats.

    D(margins of Retrain models || margins of unlearned models) over models of several seeds, image
    by image. Both: (models, N). The paper has 100 models and histograms of BINS bins, which are
    used from BINNED_FROM models on. Fewer are described by a normal distribution each, for which
    the divergence has a closed form; the spread of so few models is itself uncertain, so that two
    groups of the same kind are far from 0, see klom_by_chance. Raises ValueError if there are
    fewer than MIN_MODELS models of either kind.
    """
    q, p = (
        np.clip(np.asarray(part, float), -MAX_MARGIN, MAX_MARGIN)
        for part in (unlearned_margins, retrain_margins)
    )
    if min(len(p), len(q)) < MIN_MODELS:
        raise ValueError(f"KLOM needs at least {MIN_MODELS} models of each kind")
    if min(len(p), len(q)) >= BINNED_FROM:
        return np.array([_binned_divergence(*pair) for pair in zip(p.T, q.T, strict=True)])
    mean = p.mean(0) - q.mean(0)
    spread_p, spread_q = (np.maximum(part.std(0, ddof=1), MIN_SPREAD) for part in (p, q))
    ratio = spread_p / spread_q
    return (ratio**2 + (mean / spread_q) ** 2 - 1) / 2 - np.log(ratio)


def _binned_divergence(p, q):
    low, high = min(p.min(), q.min()), max(p.max(), q.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    p, q = (np.histogram(part, edges)[0] / len(part) for part in (p, q))
    positive = p > 0
    ratios = p[positive] / np.maximum(q[positive], MIN_PROPORTION)
    return float((p[positive] * np.log(ratios)).sum())


MEASURE = Measure(
    name="KLOM",
    group="distance",
    explanation="The distance over several seeds. The column of Retrain gives what as many models "
    "have that do not differ.",
    compute=compute,
    rows=tuple(Row(f"klom_{name}_nats", f"KLOM, {name} set, nats") for name in SETS),
    inputs=("seed_weights_digests", "retrain_weights_digests"),
)
