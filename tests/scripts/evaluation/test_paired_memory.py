"""The paired test by the scripts: a patient's images, Retrains of two seeds, and shadow models."""

import numpy as np
import pytest
from scipy import stats

from tests.helpers.environment import BASE, model_flags
from tests.helpers.output import results_of
from tests.helpers.reference import arrays_of, predictions, softmax
from tests.scripts.evaluation.shared import HASTY, SHADOWS

FORGOTTEN = 10
LINE = (
    "the paired test of main_test_unlearn.py now counts these shadow models as Retrains, if it is "
    "run with --non_members val --seed 1"
)


@pytest.fixture
def patient(trained, done, grey):
    """(flags of the request, id of an unlearned model, ids of two Retrains)."""
    rows = np.flatnonzero(arrays_of(grey, "train")[1].ravel() == 3)[:FORGOTTEN]
    (trained / "list.txt").write_text("\n".join(map(str, rows)))
    flags = ("--forget_indices", "list.txt")

    def unlearned(*options):
        printed = done("main_unlearn", *model_flags(grey), *flags, "--unlearn", *options)
        return printed.split()[-1]

    model_id = unlearned("FT", "--unlearn_epochs", "1")
    return flags, model_id, [unlearned("Retrain", "--seed", seed) for seed in ("1", "2")]


def difference_of(model_id, data):
    """Mean margin of the forgotten images less that of the unseen images of class 3."""
    means = []
    for split, count in (("train", FORGOTTEN), ("val", None)):
        logits, labels = predictions(model_id, data, split)
        p = softmax(logits)[labels == 3, 3][:count]
        means.append(np.log(p / (1 - p)).mean())
    return means[0] - means[1]


def test_a_patients_images(patient, done, grey):
    flags, model_id, retrain_ids = patient
    printed = done("main_test_unlearn", *model_flags(grey, model_id), "--measures", "privacy")
    results = results_of(model_id)
    own, *others = (difference_of(each, grey) for each in (model_id, *retrain_ids))
    difference, error = own - np.mean(others), np.std(others, ddof=1) * np.sqrt(1.5)
    assert results["paired_memory"] == pytest.approx(difference, rel=1e-3, abs=1e-3)
    p_value = 2 * stats.t.sf(abs(difference) / error, 1)
    assert results["paired_memory_p"] == pytest.approx(p_value, rel=0.02)
    assert 0.05 <= results["paired_memory_power"] <= 1
    note = results["paired_memory_note"]
    assert f"* paired test: difference of margins, nats: {note}" in printed
    assert f"picture: pics/{model_id}/memory.png\n" in printed

    printed = done("main_mia", *model_flags(grey, model_id), *SHADOWS)
    assert f"\n{LINE}\n" in printed
    done("main_test_unlearn", *model_flags(grey, model_id), "--measures", "privacy")
    assert results_of(model_id)["paired_memory_p"] != results["paired_memory_p"]

    done("main_test_unlearn", *model_flags(grey), *flags, "--measures", "privacy")
    alone = results_of(f"{BASE}_{model_id.split('_')[3]}")
    assert alone["paired_memory_note"]
    assert "no positive control" not in alone["paired_memory_note"]


def test_an_attack_on_a_class_does_not_serve(hasty, done, grey):
    assert "counts these shadow models" not in done("main_mia", *model_flags(grey, HASTY), *SHADOWS)
