"""The second table of a comparison of several base models: where the variance lies."""

import math
from collections.abc import Mapping, Sequence

from evaluation.comparison.ranking import Row
from evaluation.comparison.variance import TRUNCATED, VarianceComponents
from evaluation.measure import AVERAGE_GAP, RATIO_KEYS

HEADINGS = {RATIO_KEYS[0]: "JS ratio forget", AVERAGE_GAP: "average gap"}
TITLE = (
    "Means over the base models, and how much of the variance of one unlearning of a new base "
    "model lies between base models; the rest lies between unlearnings of one base model (95% "
    "intervals; ratios as logarithms)"
)
MAX_LOGARITHM = 700.0  # of a float's largest value
CSV_ENDS = ("between_percent", "between_percent_low", "between_percent_high")
CSV_ENDS += ("between_std", "within_std")
MARK = "*"  # of a variance that was estimated below 0

Components = Mapping[str, Mapping[str, VarianceComponents]]  # method -> key of HEADINGS


def variance_headings() -> list[str]:
    """Return the headings of `variance_cells`."""
    pairs = ((heading, "between base models") for heading in HEADINGS.values())
    return ["method", *(heading for pair in pairs for heading in pair)]


def variance_cells(rows: Sequence[Row], components: Components) -> list[list[str | None]]:
    """Return the table as text such as `72% [10, 98]`, a line per method that has figures."""
    lines = []
    for row in rows:
        parts = [components[row.name][key] for key in HEADINGS]
        if row.is_method and any(part.mean.is_defined for part in parts):
            means = [_mean(key, components[row.name][key]) for key in HEADINGS]
            pairs = zip(means, map(_fraction, parts), strict=True)
            lines.append([row.name, *(cell for pair in pairs for cell in pair)])
    return lines


def variance_notes(rows: Sequence[Row], components: Components) -> list[str]:
    """Return lines on marked and on missing values."""
    parts = [components[row.name][key] for row in rows if row.is_method for key in HEADINGS]
    notes = [f"{MARK} {TRUNCATED}"] if any(part.truncated for part in parts) else []
    reasons = {part.fraction_between.why_undefined for part in parts}
    return notes + [f"-: {reason}" for reason in sorted(filter(None, reasons))]


def csv_headings() -> list[str]:
    """Return the headings of `csv_values`."""
    return [f"{key}_{end}" for key in HEADINGS for end in CSV_ENDS]


def csv_values(components: Mapping[str, VarianceComponents]) -> list[float | None]:
    """Return the figures of a method: percentages, and standard deviations in the figure's unit.

    The unit of a ratio is that of its natural logarithm.
    """
    values = []
    for key in HEADINGS:
        part = components[key]
        fraction = part.fraction_between.times(100)
        values += [fraction.value, fraction.low, fraction.high]
        values += [
            None if figure.value is None else figure.value**0.5
            for figure in (part.between, part.within)
        ]
    return values


def _mean(key, part):
    """The mean as text; of a ratio, the mean of logarithms as the geometric mean of ratios."""
    figure = part.mean
    if not figure.is_defined:
        return None
    ends = [figure.value, figure.low, figure.high]
    if key in RATIO_KEYS:
        ends = [None if end is None else math.exp(min(end, MAX_LOGARITHM)) for end in ends]
    value, low, high = ends
    return f"{value:,.2f}" if low is None else f"{value:,.2f} [{low:,.2f}, {high:,.2f}]"


def _fraction(part):
    fraction = part.fraction_between
    if not fraction.is_defined:
        return None
    value, low, high = (100 * each for each in (fraction.value, fraction.low, fraction.high))
    return f"{value:.0f}%{MARK if part.truncated else ''} [{low:.0f}, {high:.0f}]"
