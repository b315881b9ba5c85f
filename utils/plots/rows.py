"""Labels of the rows of bar charts and confusion matrices."""

import math
from collections.abc import Collection, Sequence

from matplotlib.axes import Axes

from utils.plots.figures import LABEL_POINTS, SMALL_POINTS, wrap_label

LABEL_CHARACTERS = 26  # per line of a label that may have several
ONE_LINE_CHARACTERS = 34
LONG_LIST = 20  # rows; a longer list is set tighter
MAX_NAMED_ROWS = 100  # a longer list would be taller than a page: only some rows keep their names


def label_rows(
    axes: Axes,
    names: Sequence[str],
    max_lines: int,
    points: float | None = None,
    forgotten: Collection[int] = (),
    max_named: int = MAX_NAMED_ROWS,
    characters: int | None = None,
) -> None:
    """Label the rows 0, 1, ... of `axes`, forgotten classes in bold and marked "(forgotten)".

    Where there are more than `max_named` names, only some are shown, as far apart as `max_named`
    evenly spaced names are: first those of forgotten classes, then others. characters: per line, by
    default LABEL_CHARACTERS, or ONE_LINE_CHARACTERS where labels have one line.
    """
    if points is None:
        points = LABEL_POINTS if len(names) <= LONG_LIST else SMALL_POINTS
    if characters is None:
        characters = LABEL_CHARACTERS if max_lines > 1 else ONE_LINE_CHARACTERS
    rows = _named_rows(len(names), set(forgotten), max_named)
    labels = []
    for row in rows:
        label = wrap_label(names[row], characters, max_lines)
        if row in forgotten:
            # The mark takes a line of its own only where the name leaves one.
            separator = "\n" if label.count("\n") + 1 < max_lines else " "
            label += f"{separator}(forgotten)"
        labels.append(label)
    axes.set_yticks(rows, labels, fontsize=points, parse_math=False)
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        if row in forgotten:
            label.set_fontweight("bold")


def _named_rows(count: int, forgotten: set[int], max_named: int) -> list[int]:
    distance = max(1, math.ceil(count / max_named))
    rows: list[int] = []
    for row in sorted(forgotten):
        if not rows or row - rows[-1] >= distance:
            rows.append(row)
    others = set(range(0, count, distance)) - forgotten
    return sorted(rows + [row for row in others if _is_apart(row, rows, distance)])


def _is_apart(row: int, others: list[int], distance: int) -> bool:
    return all(abs(row - other) >= distance for other in others)
