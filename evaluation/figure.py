"""One measured figure: a value with its interval, or the reason why there is none."""

import math
from dataclasses import dataclass

SINGLE_IMAGES = "the request is of single images, not of a class"


@dataclass(frozen=True)
class Figure:
    """value: None if it is not defined, and then `why_undefined` says why in a few words.

    low, high: the ends of its confidence interval, where there is one.
    """

    value: float | int | None
    low: float | None = None
    high: float | None = None
    why_undefined: str | None = None

    def __post_init__(self):
        if (self.value is None) == (self.why_undefined is None):
            raise ValueError("a figure has a value or a reason for having none")
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"a figure of {number} is no measurement")

    @property
    def is_defined(self):
        return self.value is not None

    def times(self, factor):
        """The same in another unit: value and interval multiplied by `factor` > 0."""
        if self.value is None:
            return self
        ends = (None if end is None else factor * end for end in (self.low, self.high))
        return Figure(factor * self.value, *ends)


def undefined(reason):
    """A figure that cannot be measured here."""
    return Figure(None, why_undefined=reason)
