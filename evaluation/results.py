"""The results of a test as one flat file of plain data.

results/{results_name}.json: a figure under its key, its interval under {key}_low and {key}_high; an
undefined figure is null, and {key}_undefined gives the reason; {key}_note is what a reader must
know of a value. The base model's and Retrain's figures have the prefixes base_ and retrain_. Units
are in the keys: _percent, _points (differences of percentages), _seconds, _steps, _images, _nats;
an _auc is 0 to 1, a js_divergence in bits, a _ratio_ has no unit.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.audit import BASE, MODEL, RETRAIN
from evaluation.figure import Figure
from evaluation.measure import CLASS, GROUP
from evaluation.registry import MEASURES
from unlearn.model_ids import parse_unlearned_model_id
from utils.io.files import check_id
from utils.runtime.devices import describe

if TYPE_CHECKING:
    import numpy
    import torch

    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import MedicalDataset

FORMAT = "medical-unlearning-results-1"
LIBRARIES = ("torch", "torchvision", "medmnist", "numpy", "scipy", "sklearn")
SAME = (  # keys in which two runs must agree for their figures to be in one file
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
)
RETRAINS = "retrain_weights_digests"  # key; runs must agree in the first one, see with_earlier
PREFIXES = {BASE: "base_", MODEL: "", RETRAIN: "retrain_"}
ENDINGS = ("", "_low", "_high", "_undefined", "_note")


def flatten(figures_by_title: Mapping[str, Mapping[str, Figure]]) -> dict[str, object]:
    """Return the figures of an Audit as plain data under the keys of the file."""
    flat = {}
    for title in (MODEL, BASE, RETRAIN):
        flat |= _flat(figures_by_title.get(title, {}), PREFIXES[title])
    return flat


def heading(
    model_id: str,
    record: Mapping,
    request: ForgetRequest,
    dataset: MedicalDataset,
    seed: int,
    device: torch.device,
) -> dict[str, object]:
    """Return what a results file records of the model, the data and the machine, as plain data."""
    versions = {name: importlib.import_module(name).__version__ for name in LIBRARIES}
    return {
        "format": FORMAT,
        "model_id": model_id,
        "weights_digest": record.get("weights_digest"),
        "method": record.get("method"),
        "parent_id": record.get("parent_id"),
        **request.summary(dataset),
        "dataset": dataset.name,
        **{f"{split}_digest": dataset.digest(split) for split in dataset.splits},
        "seed": seed,
        "device": describe(device),
        "version_python": platform.python_version(),
        **{f"version_{name}": str(version) for name, version in versions.items()},
    }


def input_digests(
    costs: numpy.ndarray | None,
    groups: numpy.ndarray | None,
    peer_records: Iterable[Mapping],
    retrain_records: Iterable[Mapping],
) -> dict[str, object]:
    """Return the keys of Measure.inputs with a value that identifies each input that was given.

    costs, groups: see evaluation.audit.Context. peer_records: of the models of other seeds.
    """
    digests = {RETRAINS: [record["weights_digest"] for record in retrain_records]}
    if costs is not None:
        digests["cost_matrix_digest"] = hashlib.sha256(costs.tobytes()).hexdigest()
    if groups is not None:
        text = "\n".join(map(str, groups)).encode()
        digests["group_file_digest"] = hashlib.sha256(text).hexdigest()
    peers = [record["weights_digest"] for record in peer_records]
    return digests | ({"seed_weights_digests": peers} if peers else {})


def results_name(model_id: str, record: Mapping, request: ForgetRequest) -> str:
    """Return the first part of the names of files about a model and a request.

    It is the id of an unlearned model; the id of a base model is followed by the request. Raises
    UserError if it cannot be a file name.
    """
    if "forget_request" in record or parse_unlearned_model_id(model_id):
        return model_id
    return check_id(f"{model_id}_{request.id_part()}", "the name of the results")


def to_json(results: Mapping) -> bytes:
    """Return the bytes of the file, keys in their order. Raises ValueError for NaN and infinity."""
    return (json.dumps(results, indent=1, allow_nan=False) + "\n").encode()


def with_earlier(
    path: Path, results: dict[str, object], measured: Collection[str]
) -> dict[str, object]:
    """Return `results`, and what an earlier run measured of the same model with the same settings.

    A run with a few --measures thus removes nothing. Of the earlier run, figures and warnings of
    a measure are dropped if it was computed again, or if its inputs (Measure.inputs) changed. An
    input that was not given is unchanged if this run computed no measure that needs it. Measures
    that use further Retrains than the first one have RETRAINS as an input.

    path: of the results file. measured: names, as in MEASURES, of what this run computed.
    """
    earlier = _read(path)
    if any(earlier.get(key) != results[key] for key in SAME):
        return results
    if _first_retrain(earlier) != _first_retrain(results):
        return results
    if results["weights_digest"] is None:  # bare weights may have changed
        return results
    users = {}  # of each input, names of measures
    for name, measure in MEASURES.items():
        for key in measure.inputs:
            users.setdefault(key, set()).add(name)
    unused = {key for key, names in users.items() if key in earlier and names.isdisjoint(measured)}
    results = {**{key: earlier[key] for key in unused}, **results}
    changed = {key for key in users if earlier.get(key) != results.get(key)}
    dropped = set(measured).union(*(users[key] for key in changed))
    patterns = [_key_pattern(MEASURES[name]) for name in dropped]

    def is_dropped(key):
        return key in changed or any(pattern.fullmatch(key) for pattern in patterns)

    merged = {**earlier, **results}
    merged = {key: merged[key] for key in merged if key in results or not is_dropped(key)}
    warnings = {
        line: source for line, source in _warnings(earlier).items() if source not in dropped
    }
    warnings |= _warnings(results)
    return {**merged, "warnings": list(warnings), "warning_sources": list(warnings.values())}


def print_as_json(as_json: bool, test: Callable, *arguments: object) -> dict[str, object]:
    """Run `test(*arguments)`; if as_json, print its results and nothing that it prints itself."""
    if not as_json:
        return test(*arguments)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        results = test(*arguments)
    print(to_json(results).decode(), end="")
    return results


def _read(path):
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _first_retrain(results):
    digests = results.get(RETRAINS)
    return digests[0] if digests and isinstance(digests, list) else None


def _warnings(results):
    """Warning -> name of its measure, an empty string in files of earlier versions."""
    lines = results.get("warnings") or []
    sources = results.get("warning_sources") or [""] * len(lines)
    return dict(zip(lines, sources, strict=False))


def _key_pattern(measure):
    """Matches the keys of a measure in the file, for any class and any patient group."""
    prefixes = "|".join(map(re.escape, PREFIXES.values()))
    endings = "|".join(map(re.escape, ENDINGS))
    keys = []
    for row in measure.rows:
        stem, colon, which = re.escape(row.key).partition(":")
        keys.append(f"{stem}({endings}){colon}{which}")
    text = f"({prefixes})({'|'.join(keys) or '(?!)'})"
    return re.compile(text.replace(re.escape(CLASS), r"\d+").replace(re.escape(GROUP), "(?s:.*)"))


def _flat(figures, prefix):
    """The interval of a key such as `accuracy_percent:men` is `accuracy_percent_low:men`."""
    flat = {}
    for key, figure in figures.items():
        stem, colon, which = key.partition(":")
        flat[prefix + key] = figure.value
        if figure.low is not None:
            for name, end in (("low", figure.low), ("high", figure.high)):
                flat[f"{prefix}{stem}_{name}{colon}{which}"] = end
        for name, text in (("undefined", figure.why_undefined), ("note", figure.note)):
            if text is not None:
                flat[f"{prefix}{stem}_{name}{colon}{which}"] = text
    return flat
