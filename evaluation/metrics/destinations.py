"""Which classes the images of the request are assigned to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.figure import Figure
from evaluation.measure import Measure

if TYPE_CHECKING:
    from evaluation.audit import Context
    from evaluation.outputs import Outputs


def destinations(outputs: Outputs) -> list[float] | None:
    """Return the (K,) fractions of the request's images that are assigned to each class.

    outputs: of one split. In multi-label data, the fractions in which each finding is found. None
    if the request covers no image of the split.
    """
    covered, _ = outputs.split()
    if len(covered) == 0:
        return None
    if covered.labels.ndim == 2:
        return (covered.logits > 0).float().mean(0).tolist()
    classes = covered.logits.shape[1]
    return (covered.logits.argmax(1).bincount(minlength=classes) / len(covered)).tolist()


def compute(context: Context) -> dict[str, Figure]:
    """Return taken_for_class_{number}_percent of the training images, as Figures by key."""
    fractions = destinations(context.outputs["train"]) or ()
    return {
        f"taken_for_class_{number}_percent": Figure(100 * fraction)
        for number, fraction in enumerate(fractions)
    }


# main_test_unlearn prints these figures as a table of their own, so that there are no rows
MEASURE = Measure(
    name="predicted classes of the forget set",
    group="forgetting",
    explanation="Retrain distributes the images over the kept classes that they resemble.",
    compute=compute,
)
