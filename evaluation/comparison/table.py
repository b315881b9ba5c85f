"""The table of a comparison: as text for the terminal, as CSV and as Markdown."""

import csv
import io
from collections.abc import Sequence

from evaluation.comparison.ranking import COLUMNS, MAX_LOSS, Row
from evaluation.comparison.variance_table import (
    TITLE,
    Components,
    csv_headings,
    csv_values,
    variance_cells,
    variance_headings,
    variance_notes,
)
from evaluation.figure import Figure
from evaluation.measure import AVERAGE_GAP, RATIO_KEYS, SETS, Column
from evaluation.report import NOTE_MARK
from unlearn.lineage.parents import RETRAIN
from utils.text import format_table

RATIO_HEADINGS = {key: f"JS ratio {name}" for key, name in zip(RATIO_KEYS, SETS, strict=True)}
WITH_INTERVAL = RATIO_KEYS[0]  # the others have theirs in the CSV file: a line has no room for all
UTILITY_RULE = (
    "A method keeps utility if its mean test accuracy and its mean remaining accuracy are at most "
    f"{MAX_LOSS:g} percentage points below those of the worst Retrain."
)
RATIO_RULE = (
    "JS ratio: the mean Jensen-Shannon divergence of a model's outputs from the Retrains', over "
    "that of the Retrains from each other; 1 means as near as another Retrain."
)
INTERVAL_RULE = (
    "In brackets: 95% intervals over images, Retrains and unlearned models, of this base model; "
    "for Retrain, the least and the greatest ratio of one Retrain to the others."
)
JOINT_INTERVAL_RULE = (
    "Each base model is compared with its own Retrains. Ratios are geometric means over the base "
    "models. In brackets: 95% intervals over the base models (Student's t)."
)
RANK_RULE = (
    "The rank is 1 + the number of methods that are surely better: the 95% interval of the "
    "difference, {pairs}, excludes 0. Methods that cannot be distinguished share a rank; in "
    "brackets: the lowest and the highest rank that a method may have. Pairs are compared one by "
    "one, without a correction for their number."
)
NO_INTERVAL = "The rank follows the mean; this figure has no interval."


def headings(columns: Sequence[Column] = COLUMNS) -> list[str]:
    """Return the headings of `cells`."""
    return ["rank", "method", *RATIO_HEADINGS.values(), *(column.heading for column in columns)]


def cells(row: Row, columns: Sequence[Column] = COLUMNS, unit: str = "seed") -> list[str | None]:
    """Return the row as text such as `1.67 ± 0.12`, None for a missing figure.

    If a seed has failed, the name says how many seeds the figures are of. unit: "seed", or what
    else there is one value of.
    """
    count = row.count
    partly = f" ({count} {unit}{'s' if count > 1 else ''}, others failed)" if count else ""
    return [
        row.status,
        row.name + (partly if row.failure else ""),
        *(_ratio_cell(key, row.figures.get(key)) for key in RATIO_HEADINGS),
        *(_cell(row, column) for column in columns),
    ]


def to_text(rows: Sequence[Row], unit: str = "seed") -> str:
    """Return the table for the terminal, with notes on values and on methods without a rank."""
    table = format_table(headings(), [cells(row, unit=unit) for row in rows])
    return "\n".join([table, *notes(rows, unit)])


def variance_to_text(rows: Sequence[Row], components: Components) -> str:
    """Return the table of the parts of the variance for the terminal, with its notes."""
    table = format_table(variance_headings(), variance_cells(rows, components))
    return "\n".join([f"{TITLE}:\n", table, *variance_notes(rows, components)])


def notes(rows: Sequence[Row], unit: str = "seed") -> list[str]:
    """Return lines on marked values, on methods without a rank, and on missing base models."""
    marked = {}
    for row in rows:
        for key, heading in RATIO_HEADINGS.items():
            figure = row.figures.get(key)
            if figure and figure.note:
                marked.setdefault(figure.note, {})[heading] = None
    lines = [f"{NOTE_MARK} {', '.join(where)}: {note}" for note, where in marked.items()]
    lines += [f"{row.name}: {row.note}" for row in rows if row.note]
    most = max((row.count for row in rows), default=0)
    if unit != "seed":  # figures of other base models cannot be compared as if they were the same
        lines += [
            f"{row.name}: figures of {row.count} of {most} {unit}s only"
            for row in rows
            if 0 < row.count < most
        ]
    return lines


def describe_seeds(seeds: Sequence[int]) -> str:
    """Return a description of the seeds of a table."""
    if len(seeds) < 2:
        return f"seed {', '.join(map(str, seeds)) or 'none'}"
    return f"seeds {', '.join(map(str, seeds))}, mean ± standard deviation"


def explain(rank_by: str, has_intervals: bool, is_joint: bool = False) -> list[str]:
    """Return the paragraphs of the caption on how to read the table.

    is_joint: whether it is of several base models.
    """
    names = RATIO_HEADINGS | {AVERAGE_GAP: "average gap"}
    pairs = "paired by base model" if is_joint else "on the same images"
    rule = RANK_RULE.format(pairs=pairs) if has_intervals else NO_INTERVAL
    return [
        f"{RATIO_RULE} {JOINT_INTERVAL_RULE if is_joint else INTERVAL_RULE}",
        f"Methods that keep utility are ranked by {names[rank_by]}. {rule}",
        UTILITY_RULE,
    ]


def to_csv(
    rows: Sequence[Row],
    columns: Sequence[Column] = COLUMNS,
    unit: str = "seed",
    components: Components | None = None,
) -> bytes:
    """Return the bytes of a CSV: a line per row, mean and standard deviation of each column.

    components: of several base models, how the variance is split.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    ends = ("mean", "std")
    writer.writerow(
        [
            *(
                "method",
                f"{unit.replace(' ', '_')}s",
                "rank",
                "rank_low",
                "rank_high",
                "keeps_utility",
            ),
            *(f"{key}{end}" for key in RATIO_KEYS for end in ("", "_low", "_high")),
            *(f"{each.key}_{end}" for each in columns for end in ends),
            *(csv_headings() if components else ()),
            *("note", "failure"),
        ]
    )
    for row in rows:
        rank = (row.rank.value, row.rank.low, row.rank.high) if row.rank else [None] * 3
        figures = [row.figures.get(key) or _NONE for key in RATIO_KEYS]
        ratios = [end for each in figures for end in (each.value, each.low, each.high)]
        pairs = ((row.mean(each.key), row.spread(each.key)) for each in columns)
        keeps = {True: "yes", False: "no", None: ""}[row.keeps_utility if row.is_method else None]
        split = csv_values(components[row.name]) if components else []
        note = row.note or ("" if row.rank else row.status)
        writer.writerow(
            [
                *(row.name, row.count, *map(_number, rank), keeps),
                *map(_number, [*ratios, *(value for pair in pairs for value in pair), *split]),
                *(note, row.failure or ""),
            ]
        )
    return text.getvalue().encode()


def to_markdown(
    rows: Sequence[Row],
    caption: Sequence[str] = (),
    columns: Sequence[Column] = COLUMNS,
    unit: str = "seed",
    components: Components | None = None,
) -> bytes:
    """Return the bytes of a Markdown table below its caption, followed by notes and failures.

    caption: paragraphs. components: of several base models, how the variance is split: a second
    table.
    """
    lines = [line for paragraph in caption for line in (paragraph, "")]
    table = [cells(row, columns, unit) for row in rows]
    for line, row in zip(table, rows, strict=True):
        line[1] = f"**{row.name}**" if row.name == RETRAIN else line[1]
    lines += _markdown_lines(headings(columns), table, names=2)
    for title, items in (
        ("Notes:", notes(rows, unit)),
        ("Failed:", [f"{row.name}: {row.failure}" for row in rows if row.failure]),
    ):
        if items:
            lines += ["", title, "", *(f"- {_escaped(item)}" for item in items)]
    if components:
        lines += ["", f"{TITLE}:", ""]
        lines += _markdown_lines(variance_headings(), variance_cells(rows, components), names=1)
        lines += ["", *(f"- {_escaped(note)}" for note in variance_notes(rows, components))]
    return ("\n".join(lines) + "\n").encode()


def _escaped(note):
    return note.replace(NOTE_MARK, f"\\{NOTE_MARK}")  # else a list in a list


def _markdown_lines(head, table, names):
    """names: number of columns that are aligned left."""
    rule = ["---"] * names + ["---:"] * (len(head) - names)
    lines = [head, rule, *([cell or "-" for cell in line] for line in table)]
    return ["| " + " | ".join(line) + " |" for line in lines]


_NONE = Figure(None, why_undefined="it has no models")


def _number(value):
    return "" if value is None else f"{value:.6g}"


def _cell(row, column):
    mean, spread = row.mean(column.key), row.spread(column.key)
    if mean is None:
        return None
    unit = "%" if column.key.endswith("_percent") else ""
    text = f"{mean:,.{column.digits}f}{unit}"
    return text if spread is None else f"{text} ± {spread:,.{column.digits}f}"


def _ratio_cell(key, figure):
    if figure is None or not figure.is_defined:
        return None
    text = _ratio(figure.value) + (NOTE_MARK if figure.note else "")
    if key != WITH_INTERVAL or figure.low is None:
        return text
    return f"{text} [{_ratio(figure.low)}, {_ratio(figure.high)}]"


def _ratio(value):
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
