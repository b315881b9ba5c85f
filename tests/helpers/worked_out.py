"""What a model says, worked out plainly from its files, and ways to read what the scripts print."""

import functools
import json
import re
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from torch import nn

from models.checkpoint import load_model

HALF_AN_UNIT = {2: 0.005 + 1e-4, 3: 0.0005 + 1e-4}  # of a printed percentage; from float32


def predictions(model_id, data, split):
    """(logits, labels), one image at a time, from the file to the network."""
    model, record = load_model(model_id)
    return model_predictions(model, data, split, record.get("weights_digest"))


def model_predictions(model, data, split, digest=None):
    """The same of a model at hand; kept in memory under the digest of its weights, if given."""
    images, labels = arrays_of(data, split)
    if digest is None:
        return _logits(model, images), labels
    return _remembered(_Hashed(model, digest), str(data), split), labels


def arrays_of(data, split):
    """(images (N, H, W, C), labels (N,) or (N, K)) of a .npz file."""
    with np.load(data) as file:
        images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    images = images[..., None] if images.ndim == 3 else images
    return images, labels[:, 0] if labels.shape[1] == 1 else labels


class _Hashed:
    def __init__(self, model, digest):
        self.model, self.digest = model, digest

    def __hash__(self):
        return hash(self.digest)

    def __eq__(self, other):
        return self.digest == other.digest


@functools.cache
def _remembered(hashed, data, split):
    return _logits(hashed.model, arrays_of(data, split)[0])


def _logits(model, images):
    model.eval()
    logits = []
    with torch.no_grad():
        for image in images:
            pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
            pixels = (pixels - 0.5) / 0.5
            if model.spec.network_size:
                size = (model.spec.network_size,) * 2
                pixels = nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
            logits.append(model.network(pixels)[0])
    return torch.stack(logits).numpy()


def share(right):
    """Percent of True."""
    return 100 * float(np.mean(right))


def softmax(logits):
    powers = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def forgetting_worked_out(model_id, data, forgotten):
    """The figures of the groups forgetting and utility, by key, and where training images go."""
    found = {}
    for split in ("train", "test"):
        logits, labels = predictions(model_id, data, split)
        work = _multi_label_forgetting if labels.ndim == 2 else _single_label_forgetting
        found[split] = work(logits, labels, forgotten)
    train, test = found["train"], found["test"]
    figures = {
        "unlearn_accuracy_percent": train["unlearn"],
        "remaining_accuracy_percent": train["kept"],
        "test_accuracy_percent": test["kept"],
        "unlearn_accuracy_test_percent": test["unlearn"],
        "evaluator_accuracy_percent": test["accuracy"],
        "evaluator_auc": test["auc"],
        "kept_auc": test["kept_auc"],
    }
    if "finding_auc" in test:
        figures["finding_auc"] = test["finding_auc"]
    return figures, train["destinations"]


def _single_label_forgetting(logits, labels, forgotten):
    right, covered = logits.argmax(1) == labels, labels == forgotten
    kept = [number for number in range(logits.shape[1]) if number != forgotten]
    return {
        "unlearn": share(~right[covered]),
        "kept": share(right[~covered]),
        "accuracy": share(right),
        "auc": mean_auc(softmax(logits), labels, range(logits.shape[1])),
        "kept_auc": mean_auc(softmax(logits[~covered][:, kept]), labels[~covered], kept),
        "destinations": [
            share(logits[covered].argmax(1) == number) for number in range(logits.shape[1])
        ],
    }


def mean_auc(scores, labels, numbers):
    """Mean over classes `numbers`, each against the rest; two classes: of the second. Or None."""
    numbers = list(numbers)
    if len(numbers) < 2:
        return None
    if len(numbers) == 2:
        return roc_auc_score(labels == numbers[1], scores[:, 1])
    return np.mean([roc_auc_score(labels == n, scores[:, at]) for at, n in enumerate(numbers)])


def _multi_label_forgetting(logits, labels, forgotten):
    found, covered = logits > 0, labels[:, forgotten] == 1
    right, others = found == labels, np.arange(labels.shape[1]) != forgotten
    scores = expit(logits.astype(float))  # the Evaluator's, in which what is far off is equal
    aucs = [roc_auc_score(labels[:, n], scores[:, n]) for n in range(labels.shape[1])]
    kept_aucs = [
        roc_auc_score(labels[~covered, n], scores[~covered, n]) for n in np.flatnonzero(others)
    ]
    return {
        "unlearn": share(~right[covered, forgotten]),
        "kept": share(right[~covered][:, others]),
        "accuracy": share(right),
        "auc": np.mean(aucs),
        "kept_auc": np.mean(kept_aucs),
        "finding_auc": roc_auc_score(labels[:, forgotten], logits[:, forgotten]),
        "destinations": [share(part) for part in found[covered].T],
    }


# What the scripts said


def results_of(model_id, ending=""):
    """What results/{model_id}{ending}.json holds, read as strictly as JSON is defined."""
    return strict_json((Path("results") / f"{model_id}{ending}.json").read_text(encoding="utf-8"))


def strict_json(text):
    def once(pairs):
        keys = [key for key, _ in pairs]
        assert len(set(keys)) == len(keys), "a key is there twice"
        return dict(pairs)

    def no_number(text):
        raise AssertionError(f"{text} is no JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=no_number)


def tables(text):
    """Every table that was printed: (header, rows), lists of cells, by the columns' dashes."""
    lines = text.splitlines()
    found = []
    for at, line in enumerate(lines):
        if not re.fullmatch(r"-+(  -+)+", line):
            continue
        spans = [(dashes.start(), dashes.end()) for dashes in re.finditer(r"-+", line)]
        rows = []
        for row in [lines[at - 1], *lines[at + 1 :]]:
            outside = "".join(row[a:b] for (_, a), (b, _) in zip(spans, spans[1:], strict=False))
            if not row.strip() or outside.strip() or len(row) > spans[-1][1]:
                break
            rows.append([row[low:high].strip() for low, high in spans])
        found.append((rows[0], rows[1:]))
    return found


def table(text, *header):
    """The rows of the one table whose header begins with these cells, and the rest of its header.

    ([cell, ...], [row, ...])
    """
    found = [part for part in tables(text) if part[0][: len(header)] == list(header)]
    assert len(found) == 1, (header, [part[0] for part in tables(text)])
    return found[0][0][len(header) :], found[0][1]


def cells(text, label):
    """Title of the model -> cell, of the row of a table of figures that is called `label`."""
    found = [
        dict(zip(header[1:], row[1:], strict=True))
        for header, rows in tables(text)
        for row in rows
        if header[0] == "" and row[0] == label
    ]
    assert len(found) == 1, (label, found)
    return found[0]


def line_figure(name, text):
    """The percentage of a line `name: 12.345%`, as printed."""
    return re.search(rf"^{re.escape(name)}: ([\d.]+)%$", text, re.MULTILINE)[1]


def assert_near(text, wanted):
    """text: a percentage as printed, with two or three decimals."""
    digits = len(text.rstrip("%").split(".")[1])
    assert abs(float(text.rstrip("%")) - wanted) <= HALF_AN_UNIT[digits], (text, wanted)
