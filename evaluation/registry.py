"""Finds the measures: each file of evaluation/metrics/ that declares one adds it.

The declarations are read without importing the files, so that this module imports no torch.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import evaluation.measure
from evaluation.measure import Column, Group, Measure
from utils.declarations import read_declaration

FOLDER = Path(__file__).parent / "metrics"
PACKAGE = "evaluation.metrics"
DECLARATION = "MEASURE"
ORDER = (  # files; those not named here follow by name
    "accuracy",
    "destinations",
    "mia_efficacy",
    "membership",
    "paired_memory",
    "blind",
    "probe",
    "relearn",
    "ratio",
    "distance",
    "klom",
    "forgetting_quality",
    "sensitivity",
    "expected_cost",
    "fairness",
    "worsening",
    "cost",
)
QUESTIONS = (
    Group("forgetting", "Does the model still recognise the images that it was to forget?"),
    Group("utility", "How well does the model still work on the images and classes to be kept?"),
    Group("privacy", "Can an attacker distinguish forgotten training images from unseen images?"),
    Group("inside", "Do the weights still hold what the outputs hide?"),
    Group("distance", "How far is the model from Retrain, which never saw the forgotten images?"),
    Group("safety", "What do patients get? On test images, with 95% intervals."),
    Group("cost", "How much time did unlearning take?"),
)


def find_measures(folder: Path = FOLDER, package: str = PACKAGE) -> dict[str, Measure]:
    """Return the measures that the files of a folder declare, by file name, in their order.

    package: the name that the files are imported by. Raises ValueError if two measures declare the
    same key.
    """
    known = {name: part for name, part in vars(evaluation.measure).items() if name[0] != "_"}
    files = sorted(folder.glob("*.py"), key=lambda path: (_place(path.stem), path.stem))
    measures, owners = {}, {}
    for path in files:
        measure = read_declaration(path, f"{package}.{path.stem}", DECLARATION, known)
        if measure is None:
            continue
        measures[path.stem] = measure
        for key in [row.key for row in measure.rows]:
            if key in owners:
                raise ValueError(f"{path}: the key {key} is declared by {owners[key]} already")
            owners[key] = path
    return measures


def find_groups(measures: Iterable[Measure]) -> dict[str, Group]:
    """Return the groups of measures by name: those of QUESTIONS, then new ones."""
    groups = {group.name: group for group in QUESTIONS}
    for measure in measures:
        for name in measure.groups:
            groups.setdefault(name, Group(name))
    return groups


def find_columns(measures: Mapping[str, Measure], first: str) -> list[Column]:
    """Return the columns of main_compare's table; that of the key `first` comes first."""
    columns = [column for measure in measures.values() for column in measure.columns]
    return sorted(columns, key=lambda column: column.key != first)


def _place(stem):
    return ORDER.index(stem) if stem in ORDER else len(ORDER)


MEASURES = find_measures()
GROUPS = find_groups(MEASURES.values())
