"""The declaration of a measure: its figures, and how they are shown and compared.

This module imports no torch, so that the flags can list the groups of measures quickly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

SETS = ("forget", "retain", "test")  # the sets of images that models are compared on
RATIO_KEYS = tuple(f"js_ratio_{name}" for name in SETS)  # see evaluation/metrics/ratio.py
AVERAGE_GAP = "average_gap_points"
RANK_KEYS = (*RATIO_KEYS, AVERAGE_GAP)  # figures that main_compare can rank by: smaller is better
CLASS, GROUP = "{class}", "{group}"  # in a row: repeated for each class, for each patient group


class Group(NamedTuple):
    """A choice of --measures: its name, and the question that its measures answer."""

    name: str
    question: str = ""


class Row(NamedTuple):
    """A row of the report: the key of a figure and its label.

    The unit is the ending of the key, see evaluation/results.py. A label that starts with spaces
    belongs to the row above it. CLASS in key and label stands for the number of a class and its
    description, GROUP for the name of a patient group: such rows are repeated. group: the group
    that the row is printed in, if it is another one than the measure's.
    """

    key: str
    label: str
    group: str | None = None


class Column(NamedTuple):
    """A column of the table of main_compare: the key of a figure, its heading and its digits.

    derive: computes the number from the recorded figures of a trial and those of Retrain's trial
    with the same seed, which are None if there is no such trial: (figures, retrain_figures) ->
    number or None. Without it, the measure itself is computed in each trial.
    """

    key: str
    heading: str
    digits: int = 2
    derive: Callable | None = None


@dataclass(frozen=True)
class Measure:
    """A measure.

    name: as printed. group: one of evaluation.registry.GROUPS, or a new one, which becomes a choice
    of --measures. explanation: one or two sentences on how to read the figures. compute:
    (evaluation.audit.Context) -> Figures by key; it is called for the base model, the tested model
    and Retrain, as far as they are available, and returns an empty dict where it does not apply.
    rows: in the order of the report. warnings: (Context of the tested model) -> lines, called after
    `compute`. columns: of main_compare's table. inputs: keys of the results file that identify what
    this measure needs besides the models, the data and the request, such as "group_file_digest".
    always: computed whatever --measures says.
    """

    name: str
    group: str
    explanation: str
    compute: Callable
    rows: tuple[Row, ...] = ()
    warnings: Callable | None = None
    columns: tuple[Column, ...] = ()
    inputs: tuple[str, ...] = ()
    always: bool = False

    def rows_of(self, group: str) -> Iterator[Row]:
        """The rows that are printed in a group."""
        return (row for row in self.rows if (row.group or self.group) == group)

    @property
    def groups(self) -> dict[str, None]:
        """Names of its group and of those of its rows, as keys of a dict in their order."""
        return dict.fromkeys([self.group, *(row.group or self.group for row in self.rows)])


def tpr_key(prefix: str, rate: float) -> str:
    """Return attack_loss_tpr_percent_at_fpr_0_1_percent for attack_loss and a rate of 0.001."""
    return f"{prefix}_tpr_percent_at_fpr_{100 * rate:g}_percent".replace(".", "_")
