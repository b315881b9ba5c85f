"""The results of a test as a table in the terminal and as one flat file of plain data.

results/{results_name}.json: a figure under its key, its interval under {key}_low and {key}_high;
one that is not defined is null, and {key}_undefined says why. Base model's and Retrain's figures
have their key after base_ and retrain_. Units are in the keys: _percent, _points (differences of
percents), _seconds, _steps, _images, _nats; an _auc is 0 to 1, a js_divergence in bits.
"""

import json
import os
import platform
from contextlib import redirect_stdout

import medmnist
import numpy
import scipy
import sklearn
import torch
import torchvision

from evaluation.audit import BASE, MODEL, RETRAIN
from unlearn.model_ids import parse_unlearned_model_id
from utils.io.files import check_id
from utils.runtime.devices import describe
from utils.text import format_table

FORMAT = "medical-unlearning-results-1"
SAME = (  # what two runs must agree in for their figures to stand in one file
    "format",
    "weights_digest",
    "class_to_forget",
    "forget_id",
    "forget_count",
    "train_digest",
    "val_digest",
    "test_digest",
    "seed",
    "non_members",
    "retrain_weights_digests",
)
PREFIXES = {BASE: "base_", MODEL: "", RETRAIN: "retrain_"}


def flatten(figures_by_title):
    """The figures of an Audit as plain data under the keys of the file."""
    flat = {}
    for title in (MODEL, BASE, RETRAIN):
        flat |= _flat(figures_by_title.get(title, {}), PREFIXES[title])
    return flat


def heading(model_id, record, request, dataset, seed, device):
    """What a results file says of the model, the data and the machine, as plain data."""
    modules = (torch, torchvision, medmnist, numpy, scipy, sklearn)
    return {
        "format": FORMAT,
        "model_id": model_id,
        "weights_digest": record.get("weights_digest"),
        "method": record.get("method"),
        "parent_id": record.get("parent_id"),
        **request.brief(dataset),
        "dataset": dataset.name,
        **{f"{split}_digest": dataset.digest(split) for split in dataset.splits},
        "seed": seed,
        "device": describe(device),
        "version_python": platform.python_version(),
        **{f"version_{module.__name__}": str(module.__version__) for module in modules},
    }


def results_name(model_id, record, request):
    """What files about a model and a request begin with: the model's id where that tells both.

    A model that has forgotten nothing can be asked about any request, so that is told as well.
    Raises UserError if it cannot be a file's name.
    """
    if "forget_request" in record or parse_unlearned_model_id(model_id):
        return model_id
    return check_id(f"{model_id}_{request.id_part()}", "the name of the results")


def to_json(results):
    """The bytes of the file: keys in the order they were measured in, never NaN."""
    return (json.dumps(results, indent=1, allow_nan=False) + "\n").encode()


def with_earlier(path, results):
    """`results`, and what an earlier run of the same model and settings measured besides.

    So that a run with a few --measures takes nothing away. path: of the results file.
    """
    try:
        earlier = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return results
    if not isinstance(earlier, dict) or any(earlier.get(k) != results[k] for k in SAME):
        return results
    if results["weights_digest"] is None:  # bare weights may have changed
        return results
    warnings = dict.fromkeys([*earlier.get("warnings", ()), *results["warnings"]])
    return {**earlier, **results, "warnings": list(warnings)}


def printed_as_asked(as_json, test, *arguments):
    """Run `test(*arguments)`; with as_json its results are printed and nothing that it prints."""
    if not as_json:
        return test(*arguments)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        results = test(*arguments)
    print(to_json(results).decode(), end="")
    return results


def figure_table(rows, columns):
    """A table of figures: a row a measure, a column a model; then why some are undefined.

    rows: (key, label). columns: title -> Figures by key; a column without a key has a dash there.
    Rows that no column has are left out, and those that none has a value for.
    """
    shown = [row for row in rows if any(row[0] in figures for figures in columns.values())]
    if not shown:
        return ""
    cells, reasons, parent = [], {}, ""
    for key, label in shown:
        if not label.startswith(" "):
            parent = label
        found = [figures.get(key) for figures in columns.values()]
        if any(figure and figure.is_defined for figure in found):  # the others are told of below
            cells.append([label, *(figure and format_figure(key, figure) for figure in found)])
        for figure in found:
            if figure and not figure.is_defined:
                whose = parent.partition(":")[0] + ": " if label.startswith(" ") else ""
                reasons.setdefault(figure.why_undefined, []).append(whose + label.strip())
    lines = [format_table(["", *columns], cells)] if cells else []
    for reason, labels in reasons.items():
        first, *more = dict.fromkeys(labels)
        others = f" and {len(more)} more" if more else ""
        lines.append(f"undefined: {first}{others}: {reason}")
    return "\n".join(lines)


def format_figure(key, figure):
    """`93.75% [88.1, 97.2]`, in the unit that the key names."""
    if not figure.is_defined:
        return "undefined"
    if key.endswith("_p_value"):
        return f"{figure.value:.2g}"
    digits, unit = _form(key)
    text = f"{figure.value:,.{digits}f}{unit}"
    if figure.low is None:
        return text
    return f"{text} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def _form(key):
    if "_percent" in key:
        return 2, "%"
    if key.endswith("_points"):
        return 2, ""
    if key.endswith(("_steps", "_images", "_class")):
        return 0, ""
    if key.endswith("_seconds"):
        return 1, ""
    return (3, "") if "_auc" in key else (4, "")


def _flat(figures, prefix):
    """Of a key such as `accuracy_percent:men` the ends are `accuracy_percent_low:men`."""
    flat = {}
    for key, figure in figures.items():
        stem, colon, which = key.partition(":")
        flat[prefix + key] = figure.value
        if figure.low is not None:
            for name, end in (("low", figure.low), ("high", figure.high)):
                flat[f"{prefix}{stem}_{name}{colon}{which}"] = end
        if not figure.is_defined:
            flat[f"{prefix}{stem}_undefined{colon}{which}"] = figure.why_undefined
    return flat
