"""Which kept classes does the model recognise significantly worse than its base model?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.figure import Figure
from evaluation.measure import Measure, Row
from evaluation.outputs import LabelledLogits, class_members
from evaluation.statistics import holm, mcnemar

if TYPE_CHECKING:
    from evaluation.audit import Context

SIGNIFICANCE = 0.05  # probability of any warning when nothing got worse


@dataclass(frozen=True)
class Worsening:
    """lost, gained: images of the class that only the base model, or only the other model,
    predicts correctly.

    negatives: they are the images without the finding, in multi-label data. p_value: McNemar's,
    one-sided, after Holm's correction over all classes tested together.
    """

    class_index: int
    lost: int
    gained: int
    p_value: float
    negatives: bool = False

    @property
    def is_significant(self) -> bool:
        """Whether the class got worse by more than chance explains."""
        return self.p_value <= SIGNIFICANCE


def compute(context: Context) -> dict[str, Figure]:
    """Return what each kept class lost and gained in the tested model, with the p-value."""
    figures = {}
    for change in _worsenings(context):
        side = "_negatives" if change.negatives else ""
        figures |= {
            f"class_{change.class_index}_lost{side}_images": Figure(change.lost),
            f"class_{change.class_index}_gained{side}_images": Figure(change.gained),
            f"class_{change.class_index}_worse{side}_p_value": Figure(change.p_value),
        }
    return figures


def warnings(context: Context) -> list[str]:
    """Return a line for each kept class that is recognised significantly worse."""
    lines = []
    for change in _worsenings(context):
        if change.is_significant:
            name = context.dataset.describe_class(change.class_index)
            images = "test images without it" if change.negatives else "test images"
            lines.append(
                f"class {name} is recognised significantly worse than before: {change.lost} "
                f"{images} lost, {change.gained} gained (McNemar's exact test, one-sided, "
                f"p = {change.p_value:.2g} after Holm's correction)"
            )
    return lines


def significantly_worse(
    correct_before: np.ndarray, correct_after: np.ndarray, labels: np.ndarray, kept: Sequence[int]
) -> list[Worsening]:
    """Return a Worsening for each class of `kept` that has an image.

    correct_before, correct_after: (N,) bool, or (N, K) for multi-label data: which predictions of
    two models for the same images are correct. A class is tested on its own images; a finding on
    the images that have it, and on those that do not, because a model that sees it everywhere loses
    none of the former.

    The test is one-sided because the question is "worse?": a class that improved needs no warning,
    and the whole error probability serves to find losses. Holm's correction holds for all warnings
    together: when nothing changed, the probability that any class is significant is at most
    SIGNIFICANCE.
    """
    tested = []
    for number in kept:
        own = class_members(labels, number)
        sides = {False: own} if labels.ndim == 1 else {False: own, True: ~own}
        for negatives, images in sides.items():
            if images.any():
                before, after = (
                    correct[images] if labels.ndim == 1 else correct[images, number]
                    for correct in (correct_before, correct_after)
                )
                lost, gained = int((before & ~after).sum()), int((~before & after).sum())
                tested.append((number, lost, gained, negatives))
    p_values = holm([mcnemar(lost, gained) for _, lost, gained, _ in tested])
    return [
        Worsening(number, lost, gained, p_value, negatives)
        for (number, lost, gained, negatives), p_value in zip(tested, p_values, strict=True)
    ]


def worsenings(
    before: LabelledLogits, after: LabelledLogits, kept: Sequence[int]
) -> list[Worsening]:
    """Return a Worsening for each kept class, from two models' outputs for the same images."""
    labels = after.labels.numpy()
    correct = [part.predictions() == labels for part in (before, after)]
    return significantly_worse(*correct, labels, kept)


def _worsenings(context):
    if not context.is_tested or context.base is None:
        return []
    kept = context.request.kept_classes(context.dataset.num_classes)
    return worsenings(context.base.outputs["test"], context.outputs["test"], kept)


MEASURE = Measure(
    name="worsening",
    group="safety",
    explanation="Images of kept classes that only the base model, or only this model, predicts "
    f"correctly; a p-value of at most {SIGNIFICANCE:g} is a significant loss.",
    compute=compute,
    rows=(
        Row("class_{class}_lost_images", "{class}: correct in the base model only, images"),
        Row("class_{class}_gained_images", "  correct in this model only, images"),
        Row("class_{class}_worse_p_value", "  worse than before: p (McNemar, Holm)"),
        Row(
            "class_{class}_lost_negatives_images",
            "  without the finding: correct in the base model only, images",
        ),
        Row(
            "class_{class}_gained_negatives_images",
            "  without the finding: correct in this model only, images",
        ),
        Row(
            "class_{class}_worse_negatives_p_value",
            "  without the finding: worse than before: p (McNemar, Holm)",
        ),
    ),
    warnings=warnings,
)
