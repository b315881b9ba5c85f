"""How far a model is from Retrain, the model that never saw the forget set."""

import numpy as np
import torch

from evaluation.figure import Figure, undefined

GAP_KEYS = (
    "unlearn_accuracy_percent",
    "remaining_accuracy_percent",
    "test_accuracy_percent",
    "mia_efficacy_percent",
)
LEAST_MODELS = 3  # of each kind, for a spread over seeds
BINNED_FROM = 100  # models of each kind, as in the paper; with fewer a histogram is mostly empty
BINS = 20
LEAST_SHARE = 1e-5  # of a bin that is empty in the second histogram
LARGEST_MARGIN = 100.0
LEAST_SPREAD = 1e-3  # nats; identical models have none at all


def average_gap(figures, retrain_figures):
    """Mean absolute difference from Retrain over GAP_KEYS, in points of a percent.

    As SalUn tabulates it (Fan et al., ICLR 2024, table 1, "Avg. Gap"): unlearn, remaining and test
    accuracy and MIA efficacy. figures: Figures by key, in percent.
    """
    gaps = []
    for key in GAP_KEYS:
        pair = figures[key], retrain_figures[key]
        missing = next((figure for figure in pair if not figure.is_defined), None)
        if missing:
            return undefined(f"{key} is not defined: {missing.why_undefined}")
        gaps.append(abs(pair[0].value - pair[1].value))
    return Figure(float(np.mean(gaps)))


def agreement(logits, retrain_logits, multi_label):
    """Share of outputs, 0 to 1, in which both models predict the same.

    logits: (N, K). Of images by their top class; in multi-label data of all findings.
    """
    if len(logits) == 0:
        return undefined("no image")
    first, second = (
        part > 0 if multi_label else part.argmax(1) for part in (logits, retrain_logits)
    )
    return Figure((first == second).double().mean().item())


def js_divergence(logits, retrain_logits, multi_label):
    """Mean Jensen-Shannon divergence of the two models' outputs, in bits, 0 to 1.

    JS(p, q) = H((p + q) / 2) - H(p) / 2 - H(q) / 2 (Lin, IEEE Trans. Inf. Theory 1991), over an
    image's classes; in multi-label data over yes and no to each finding, averaged.
    """
    if len(logits) == 0:
        return undefined("no image")
    p, q = (_distributions(part, multi_label) for part in (logits, retrain_logits))
    each = _entropy((p + q) / 2) - _entropy(p) / 2 - _entropy(q) / 2
    return Figure(each.mean().clamp(0, 1).item())


def margins(logits, labels):
    """log(p_y / (1 - p_y)) of each image: (N,) float64 numpy, from (N, K) logits, (N,) labels."""
    logits, own = torch.as_tensor(logits).double(), torch.as_tensor(labels)[:, None]
    others = logits.scatter(1, own, -torch.inf).logsumexp(1)
    return (logits.gather(1, own)[:, 0] - others).numpy()


def klom(unlearned_margins, retrain_margins):
    """KL divergence of margins of each image: (N,) float64, in nats.

    Georgiev et al., "Attribute-to-Delete: machine unlearning via datamodel matching", ICLR 2025:
    D(margins of Retrain models || margins of unlearned models) over models of several seeds, image
    by image. Both: (models, N). The paper has 100 models and histograms of BINS bins; that is done
    from BINNED_FROM models on. Fewer are described by a normal distribution each, for which the
    divergence has a closed form; the spread of so few models is itself uncertain, so that two
    groups of the same kind are far from 0, too: see measures.klom_by_chance.
    """
    q, p = (
        np.clip(np.asarray(part, float), -LARGEST_MARGIN, LARGEST_MARGIN)
        for part in (unlearned_margins, retrain_margins)
    )
    if min(len(p), len(q)) < LEAST_MODELS:
        raise ValueError(f"KLOM needs {LEAST_MODELS} models of each kind at least")
    if min(len(p), len(q)) >= BINNED_FROM:
        return np.array([_binned_divergence(*pair) for pair in zip(p.T, q.T, strict=True)])
    mean = p.mean(0) - q.mean(0)
    spread_p, spread_q = (np.maximum(part.std(0, ddof=1), LEAST_SPREAD) for part in (p, q))
    ratio = spread_p / spread_q
    return (ratio**2 + (mean / spread_q) ** 2 - 1) / 2 - np.log(ratio)


def _binned_divergence(p, q):
    low, high = min(p.min(), q.min()), max(p.max(), q.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    p, q = (np.histogram(part, edges)[0] / len(part) for part in (p, q))
    inside = p > 0
    return float((p[inside] * np.log(p[inside] / np.maximum(q[inside], LEAST_SHARE))).sum())


def _distributions(logits, multi_label):
    logits = logits.double()
    if multi_label:
        found = logits.sigmoid()
        return torch.stack([found, 1 - found], -1)
    return logits.softmax(1)


def _entropy(p):
    return torch.special.entr(p).sum(-1) / np.log(2)
