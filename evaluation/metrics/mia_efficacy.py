"""SalUn's MIA efficacy: what share of the forget set passes for never seen.

Fan et al., "SalUn", ICLR 2024, and its evaluation code: a support vector classifier learns from the
confidence in the true class to tell retained training images (members) from images that were never
trained on, and is then shown the forget set; the share that it calls non-members is the efficacy
(TN / |forget set|). Settings as there: C 3, gamma auto, radial basis functions, as many members as
non-members.
"""

import numpy as np
from sklearn.svm import SVC

from evaluation.figure import Figure, undefined
from evaluation.metrics.membership import membership_scores

PENALTY = 3  # SalUn's C
LARGEST = 5000  # images of each side; the classifier's time grows with the square of them


def mia_efficacy(retain, non_members, forget, seed=1):
    """Share, 0 to 1, of the forget set that is taken for never seen.

    retain, non_members, forget: (logits, labels) of each set. Where SalUn takes the first images
    of the retain set, these are drawn with `seed`, because data sets are sorted at times.
    """
    sets = {"retained": retain, "non-member": non_members, "forgotten": forget}
    for name, (_, labels) in sets.items():
        if len(labels) == 0:
            return undefined(f"no {name} image")
    rng = np.random.default_rng(seed)
    count = min(len(retain[1]), len(non_members[1]), LARGEST)
    known, unknown = (
        rng.choice(_confidence(*part), count, replace=False) for part in (retain, non_members)
    )
    classifier = SVC(C=PENALTY, gamma="auto", kernel="rbf")
    classifier.fit(np.concatenate([known, unknown])[:, None], np.repeat([1, 0], count))
    called = classifier.predict(_confidence(*forget)[:, None])
    return Figure(float(1 - called.mean()))


def _confidence(logits, labels):
    return membership_scores(logits, labels)["confidence"]
