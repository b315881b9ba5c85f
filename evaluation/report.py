"""Lays out measures as text: a section for each group, with explanations and one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from textwrap import fill
from typing import TYPE_CHECKING

from evaluation.figure import Figure
from evaluation.measure import CLASS, GROUP, Group, Measure, Row
from evaluation.metrics.destinations import destinations
from utils.text import format_table, percent

if TYPE_CHECKING:
    from evaluation.audit import Audit
    from evaluation.outputs import Outputs
    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import MedicalDataset

LINE_WIDTH = 100  # characters
NOTE_MARK = "*"  # behind a value, and before its note
Columns = Mapping[str, Mapping[str, Figure]]  # title of a model -> Figures by key


def group_report(
    group: Group, audit: Audit, dataset: MedicalDataset, patient_groups: Iterable[str] = ()
) -> str:
    """Return the section of a group: its question, how to read its measures, and their figures.

    Measures that have no figures are left out; the text is empty if none has any.
    """
    classes = [dataset.describe_class(number) for number in range(dataset.num_classes)]
    rows, shown = [], []
    for measure in audit.measures.values():
        own = list(expand_rows(measure.rows_of(group.name), classes, patient_groups))
        if any(row.key in figures for row in own for figures in audit.figures.values()):
            rows += own
            shown.append(measure)
    if not rows:
        return ""
    return f"{explain(group, shown)}\n\n{figure_table(rows, audit.figures)}"


def destination_table(
    outputs: Mapping[str, Mapping[str, Outputs]], dataset: MedicalDataset, request: ForgetRequest
) -> str:
    """Return a table of the classes that the request's training images are assigned to.

    outputs: as evaluation.audit.Audit has them. The text is empty if there are no such images.
    """
    fractions = {title: destinations(parts["train"]) for title, parts in outputs.items()}
    columns = {title: part for title, part in fractions.items() if part}
    if not columns:
        return ""
    which = "to be forgotten" if request.indices else f"of {request.description}"
    rows = [
        [number, name, *(percent(part[number]) for part in columns.values())]
        for number, name in enumerate(dataset.class_names)
    ]
    table = format_table(["class", "name", *columns], rows)
    return f"training images {which}, by predicted class:\n\n{table}"


def explain(group: Group, measures: Iterable[Measure]) -> str:
    """Return the question of a group, and below it a line on how to read each measure."""
    title = f"{group.name[0].upper()}{group.name[1:]}"
    lines = [fill(f"{title}: {group.question}" if group.question else title, LINE_WIDTH)]
    for measure in measures:
        text = f"- {measure.name}: {measure.explanation}"
        lines.append(fill(text, LINE_WIDTH, subsequent_indent="  "))
    return "\n".join(lines)


def expand_rows(
    rows: Iterable[Row], classes: Sequence[str], patient_groups: Iterable[str] = ()
) -> Iterator[Row]:
    """Yield the rows, consecutive rows with CLASS or GROUP once for each class or patient group.

    classes: their descriptions, by number.
    """
    numbered = [(str(number), name) for number, name in enumerate(classes)]
    values = {CLASS: numbered, GROUP: [(name, name) for name in patient_groups], None: [("", "")]}
    for mark, block in groupby(rows, _mark):
        block = list(block)
        for in_key, in_label in values[mark]:
            for row in block:
                if mark is None:
                    yield row
                else:
                    label = row.label.replace(mark, in_label)
                    yield Row(row.key.replace(mark, in_key), label)


def figure_table(rows: Iterable[Row], columns: Columns) -> str:
    """Return a table of figures, a row per key, a column per model, notes, and why some lack.

    A column without a key has a dash there. Left out are rows that no column has, and rows without
    any value.
    """
    shown = [row for row in rows if any(row.key in figures for figures in columns.values())]
    if not shown:
        return ""
    cells, reasons, notes, parent = [], {}, {}, ""
    for row in shown:
        key, label = row.key, row.label
        if not label.startswith(" "):
            parent = label
        found = [figures.get(key) for figures in columns.values()]
        if any(figure and figure.is_defined for figure in found):
            cells.append([label, *(figure and format_figure(key, figure) for figure in found)])
        for figure in found:
            if figure and not figure.is_defined:
                prefix = parent.partition(":")[0] + ": " if label.startswith(" ") else ""
                reasons.setdefault(figure.why_undefined, []).append(prefix + label.strip())
            if figure and figure.note:
                notes.setdefault(figure.note, []).append(label.strip())
    lines = [format_table(["", *columns], cells)] if cells else []
    for note, labels in notes.items():
        lines.append(f"{NOTE_MARK} {'; '.join(dict.fromkeys(labels))}: {note}")
    for reason, labels in reasons.items():
        first, *more = dict.fromkeys(labels)
        others = f" and {len(more)} more" if more else ""
        lines.append(f"undefined: {first}{others}: {reason}")
    return "\n".join(lines)


def format_figure(key: str, figure: Figure) -> str:
    """Return a figure such as `93.75% [88.1, 97.2]`, in the unit that the key names."""
    if not figure.is_defined:
        return "undefined"
    if key.endswith(("_p_value", "_p")):
        return f"{figure.value:.2g}"
    digits, unit = _digits_and_unit(key)
    text = f"{figure.value:,.{digits}f}{unit}{NOTE_MARK if figure.note else ''}"
    if figure.low is None:
        return text
    return f"{text} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def _digits_and_unit(key):
    if "_percent" in key:
        return 2, "%"
    if key.endswith(("_points", "_memory", "_power")) or "_ratio_" in key:
        return 2, ""
    if key.endswith(("_steps", "_images", "_class")):
        return 0, ""
    if key.endswith("_seconds"):
        return 1, ""
    if "_auc" in key or key.endswith(("_quality", "_epsilon", "_advantage")):
        return 3, ""
    return 4, ""


def _mark(row):
    return next((mark for mark in (CLASS, GROUP) if mark in row.key), None)
