"""SalUn's MIA efficacy: the percentage of the forget set that an attack takes for unseen images.

Fan et al., "SalUn", ICLR 2024, and its evaluation code: a support vector classifier is trained on
the confidence in the true class to distinguish retained training images (members) from images that
were never trained on (non-members), and is then applied to the forget set; the fraction that it
calls non-members is the efficacy (TN / |forget set|). Settings as there: C 3, gamma auto, radial
basis functions, as many members as non-members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.svm import SVC

from evaluation.figure import Figure, undefined
from evaluation.measure import Column, Measure, Row
from evaluation.metrics.membership import membership_scores

if TYPE_CHECKING:
    import torch

    from evaluation.audit import Context

PENALTY = 3  # SalUn's C
MAX_IMAGES = 5000  # on either side; the time of the classifier grows with the square of them


def compute(context: Context) -> dict[str, Figure]:
    """Return the efficacy of any model, Figures by key.

    The attack is trained on images that the request does not cover: on test images, as published,
    and on validation images, as the keys name them.
    """
    forget, retain = context.outputs["train"].split()
    figures = {}
    for key, split in (("mia_efficacy_percent", "test"), ("mia_efficacy_val_percent", "val")):
        sets = (retain, context.outputs[split].split()[1], forget)
        pairs = [context.request.scored_logits(part.logits, part.labels) for part in sets]
        figures[key] = mia_efficacy(*pairs, seed=context.seed).times(100)
    return figures


def mia_efficacy(
    retain: tuple[torch.Tensor, torch.Tensor],
    non_members: tuple[torch.Tensor, torch.Tensor],
    forget: tuple[torch.Tensor, torch.Tensor],
    seed: int = 1,
) -> Figure:
    """Return the fraction, 0 to 1, of the forget set that is classified as never seen.

    retain, non_members, forget: (logits (N, K), labels (N,)) of each set. SalUn takes the first
    images of the retain set; here they are drawn with `seed`, because data sets may be sorted.
    """
    sets = {"retained": retain, "non-member": non_members, "forgotten": forget}
    for name, (_, labels) in sets.items():
        if len(labels) == 0:
            return undefined(f"no {name} image")
    rng = np.random.default_rng(seed)
    count = min(len(retain[1]), len(non_members[1]), MAX_IMAGES)
    known, unknown = (
        rng.choice(_confidence(*part), count, replace=False) for part in (retain, non_members)
    )
    classifier = SVC(C=PENALTY, gamma="auto", kernel="rbf")
    classifier.fit(np.concatenate([known, unknown])[:, None], np.repeat([1, 0], count))
    called = classifier.predict(_confidence(*forget)[:, None])
    return Figure(float(1 - called.mean()))


def _confidence(logits, labels):
    return membership_scores(logits, labels)["confidence"]


MEASURE = Measure(
    name="MIA efficacy",
    group="privacy",
    explanation="The percentage of forgotten images that the attack takes for unseen ones. The "
    "best value is Retrain's.",
    compute=compute,
    rows=(
        Row("mia_efficacy_percent", "MIA efficacy, attack trained on test images"),
        Row("mia_efficacy_val_percent", "MIA efficacy, attack trained on val images"),
    ),
    columns=(Column("mia_efficacy_percent", "MIA efficacy"),),
)
