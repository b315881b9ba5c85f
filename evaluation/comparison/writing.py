"""Prints the table of a comparison, and writes it with its pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evaluation.comparison.joint import (
    compare_base_models,
    joint_id,
    joint_rows,
    values_by_base,
    variances,
)
from evaluation.comparison.ranking import (
    NOTHING_DONE,
    Row,
    compare_by_images,
    rank_rows,
)
from evaluation.comparison.results import result_of
from evaluation.comparison.runs import Run
from evaluation.comparison.table import (
    describe_seeds,
    explain,
    to_csv,
    to_markdown,
    to_text,
    variance_to_text,
)
from evaluation.measure import RATIO_KEYS
from unlearn.lineage.parents import RETRAIN
from unlearn.model_ids import FORGOTTEN
from utils.io.files import PICTURE_FOLDER, RESULT_FOLDER, write_atomically
from utils.plots.comparison import forgetting_against_utility
from utils.plots.ratios import relative_distances
from utils.plots.saving import save_picture

ROLES = {RETRAIN: "reference", NOTHING_DONE: "base"}
PANELS = {RATIO_KEYS[0]: "JS ratio, forget set", RATIO_KEYS[2]: "JS ratio, test set"}


def write_results(runs: Sequence[Run], name: str, rank_by: str) -> list[Row]:
    """Print and write the table of all finished trials, and draw the pictures; return the rows.

    name: of the files of the table, without their suffix.
    """
    results = [result_of(run) for run in runs]
    is_joint = len(results) > 1
    if is_joint:
        rows, components = joint_rows(results), variances(results)
        compare, unit = compare_base_models(results, rank_by), "base model"
    else:
        rows, components = results[0].rows, None
        compare, unit = compare_by_images(results[0].distances, rank_by), "seed"
    rows = rank_rows(rows, rank_by, compare)
    first = runs[0].comparison
    forgotten = f"{first.request.description} forgotten"
    title = f"{first.dataset.name}, {forgotten}"
    caption = [_describe(results, title), *explain(rank_by, compare is not None, is_joint)]
    print(f"\n{title}\n\n{to_text(rows, unit)}\n")
    print("\n".join(caption))
    if components:
        print(f"\n{variance_to_text(rows, components)}")
    _print_missing(results)
    warnings = dict.fromkeys(filter(None, (run.comparison.mask_warning() for run in runs)))
    lines = [f"WARNING: methods with SalUn: {warning}" for warning in warnings]
    for line in lines:
        print(line)
    markdown = to_markdown(rows, caption, unit=unit, components=components)
    write_atomically(RESULT_FOLDER / f"{name}.csv", to_csv(rows, unit=unit, components=components))
    markdown += "".join(f"\n{line}\n" for line in lines).encode()
    write_atomically(RESULT_FOLDER / f"{name}.md", markdown)
    print(f"\ntable: {RESULT_FOLDER / name}.csv and .md")
    _draw(rows, results, name, forgotten)
    return rows


def _describe(results, title):
    """The first paragraph of the caption: models, request, seeds."""
    ids = ", ".join(result.base_id for result in results)
    seeds = sorted({seed for result in results for seed in result.seeds})
    if len(results) > 1:
        found = ", ".join(map(str, seeds)) or "none"
        counts = ", ".join(str(len(result.retrain_seeds)) for result in results)
        return (
            f"{ids} on {title}; mean ± standard deviation over base models; seeds of the methods: "
            f"{found}; Retrains of each base model: {counts}"
        )
    retrains = results[0].retrain_seeds
    which = ", ".join(map(str, retrains))
    found = f"{len(retrains)} Retrain{'' if len(retrains) == 1 else 's'}"
    return f"{ids} on {title}; {describe_seeds(seeds)}; {found}" + (
        f" (seeds {which})" if retrains else ""
    )


def _print_missing(results):
    """Print which methods failed, and which earlier ones are not in the table."""
    for result in results:
        where = f" on {result.base_id}" if len(results) > 1 else ""
        for method_id, why in result.failures.items():
            print(f"{method_id} failed{where}: {why}")
        if result.left_out:
            found = [
                f"{method_id} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"
                for method_id, seeds in result.left_out.items()
            ]
            print(
                f"left out{where}: {', '.join(found)}: their models, or figures of some columns, "
                "are missing; to add them again, give --unlearn and --seeds, for Retrain --retrains"
            )


def _draw(rows, results, name, forgotten):
    """Save the pictures of the table."""
    base_id = joint_id([result.base_id for result in results])
    title = f"{base_id}\n{forgotten}"
    folder = PICTURE_FOLDER / base_id
    ending = f"{name.split(FORGOTTEN)[-1].removesuffix('_comparison')}.png"
    picture = forgetting_against_utility([_mark(row) for row in rows], title)
    save_picture(picture, folder / f"methods_{ending}")
    panels = {
        panel: [_ratio_mark(row, key, results) for row in rows if key in row.figures]
        for key, panel in PANELS.items()
    }
    if any(panels.values()):
        save_picture(relative_distances(panels, title), folder / f"ratios_{ending}")


def _mark(row):
    """Return the row as a mark in the picture of forgetting and utility."""
    return {
        "name": row.name,
        "role": ROLES.get(row.name, "method"),
        "forgetting": row.mean("unlearn_accuracy_percent"),
        "utility": row.mean("test_accuracy_percent"),
        "spreads": [row.spread(f"{kind}_accuracy_percent") for kind in ("unlearn", "test")],
        "seconds": row.mean("seconds"),
    }


def _ratio_mark(row, key, results):
    """Return the row as a mark in the picture of ratios, with one for each of several models."""
    figure = row.figures[key]
    role = ROLES.get(row.name, "method" if row.rank else "unranked")
    marks = []
    if len(results) > 1:
        logarithms = values_by_base(results, row.name, key)
        marks = [math.exp(value) for value in logarithms if value is not None]
    return {
        "name": f"{row.rank} {row.name}" if row.rank else row.name,
        "value": figure.value,
        "low": figure.low if key == RATIO_KEYS[0] else None,
        "high": figure.high if key == RATIO_KEYS[0] else None,
        "role": role,
        "marks": marks,
    }
