"""One measured figure: a value with its confidence interval, or the reason why it is undefined."""

import math
from dataclasses import dataclass

from evaluation.settings import FOLDS

SINGLE_IMAGES = "the request is of single images, not of a class"
IS_RETRAIN = "this model is Retrain"
NO_RETRAIN = "no Retrain is available: create one with main_unlearn.py --unlearn Retrain"


@dataclass(frozen=True)
class Figure:
    """value: None if it is undefined; `why_undefined` then gives the reason in a few words.

    low, high: the ends of its confidence interval, if it has one. note: what a reader must know of
    how this value came about, in a few words. Raises ValueError if a number is not finite, and
    unless there is either a value or a reason.
    """

    value: float | int | None
    low: float | None = None
    high: float | None = None
    why_undefined: str | None = None
    note: str | None = None

    def __post_init__(self):
        if (self.value is None) == (self.why_undefined is None):
            raise ValueError("a figure has either a value or a reason why it is undefined")
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"a figure must be finite, and {number} is not")

    @property
    def is_defined(self) -> bool:
        """Whether it has a value."""
        return self.value is not None

    def times(self, factor: float) -> "Figure":
        """Return the figure in another unit: value and interval multiplied by `factor` > 0."""
        if self.value is None:
            return self
        ends = (None if end is None else factor * end for end in (self.low, self.high))
        return Figure(factor * self.value, *ends, note=self.note)


def undefined(reason: str) -> Figure:
    """Return a figure that cannot be measured, with the reason."""
    return Figure(None, why_undefined=reason)


def too_few(members: int, non_members: int) -> str | None:
    """Return why these numbers of members and non-members are too small, None if they are not."""
    names = (members, "image", " of the request"), (non_members, "non-member", "")
    for count, what, which in names:
        if count < FOLDS:
            return f"{count} {what}{'s' if count != 1 else ''}{which}, and the minimum is {FOLDS}"
    return None
