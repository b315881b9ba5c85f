"""Relative distances of made-up outputs, against a loop over the models' pairs."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import gmean

from evaluation.audit import BASE, RETRAIN
from evaluation.figure import Figure
from evaluation.measure import SETS, Row
from evaluation.metrics.ratio import (
    FLOOR,
    KEYS,
    compute,
    leave_one_out,
    left_out_figures,
    ratio_figures,
)
from evaluation.outputs import LabelledLogits
from evaluation.report import figure_table
from evaluation.results import flatten
from evaluation.retrains import relative
from evaluation.retrains.pairwise import confusion_distances, disagreements, js_divergences
from tests.evaluation.contexts import make_context, make_outputs
from unlearn.request.request import ForgetRequest

REQUEST = ForgetRequest((2,))
IMAGES = dict(zip(SETS, (20, 30, 25), strict=True))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(relative, "RESAMPLES", 100)


def random_logits(seed, count, spread=1.0, classes=4):
    """Logits near those that the models have in common; spread: of the differences."""
    common, own = (torch.Generator().manual_seed(number) for number in (99, seed))
    draw = {"common": common, "own": own}
    parts = [torch.randn(count, classes, generator=draw[name]) for name in draw]
    return 3 * parts[0] + spread * parts[1]


def sets_of_model(seed, spread=1.0, multi_label=False):
    sets = {}
    for name, count in IMAGES.items():
        labels = torch.arange(count) % 4
        if multi_label:
            labels = torch.nn.functional.one_hot(labels, 4)
        sets[name] = LabelledLogits(random_logits(seed, count, spread), labels)
    return sets


def mean_distance(key, first, second, multi_label=False):
    """Of two models; for the confusion, its square."""
    stem, _, name = key.split("_")
    p, q = (sets[name].logits for sets in (first, second))
    if stem == "confusion":
        measure = confusion_distances([p, q], first[name].labels, multi_label)
        return measure(np.full((1, len(p)), 1 / len(p)))[0, 0, 1]
    distance = {"js": js_divergences, "disagreement": disagreements}[stem]
    return distance(p, q, multi_label).mean()


def expected_ratio(key, models, retrains, multi_label=False):
    def mean(pairs):
        return np.mean([mean_distance(key, *pair, multi_label) for pair in pairs])

    to_retrains = mean([(model, retrain) for model in models for retrain in retrains])
    ratio = to_retrains / mean(combinations(retrains, 2))
    return ratio**0.5 if key.startswith("confusion") else ratio


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("models", "retrains"), [(1, 2), (2, 3)])
def test_ratios_by_a_loop(models, retrains, multi_label):
    ours = [sets_of_model(seed, 2, multi_label) for seed in range(models)]
    theirs = [sets_of_model(10 + seed, 1, multi_label) for seed in range(retrains)]
    figures = ratio_figures(ours, theirs)
    assert list(figures) == list(KEYS)
    for key, figure in figures.items():
        assert figure.value == pytest.approx(expected_ratio(key, ours, theirs, multi_label))
        assert figure.low <= figure.value <= figure.high
        assert figure.note is None
    assert ratio_figures(ours, theirs) == figures  # the resamples come from a seed
    other = ratio_figures(ours, theirs, seed=2)
    assert other["js_ratio_test"].value == figures["js_ratio_test"].value
    assert other["js_ratio_test"] != figures["js_ratio_test"]


def test_leave_one_out_by_hand():
    """Each of three Retrains against the other two, by the distances of the three pairs."""
    retrains = [sets_of_model(seed) for seed in range(3)]
    found, each = leave_one_out(retrains), left_out_figures(retrains)
    assert list(found) == list(KEYS)
    for key in KEYS:
        ab, ac, bc = (mean_distance(key, *pair) for pair in combinations(retrains, 2))
        ratios = [(ab + ac) / 2 / bc, (ab + bc) / 2 / ac, (ac + bc) / 2 / ab]
        if key.startswith("confusion"):
            ratios = np.sqrt(ratios)
        assert [figures[key].value for figures in each] == pytest.approx(list(ratios))
        geometric = np.prod(ratios) ** (1 / 3)
        expected = (geometric, min(ratios), max(ratios))
        assert (found[key].value, found[key].low, found[key].high) == pytest.approx(expected)
        assert geometric == pytest.approx(gmean(ratios))
    [some, *_] = left_out_figures(retrains, keys=KEYS[:2])
    assert some == {key: each[0][key] for key in KEYS[:2]}
    with pytest.raises(ValueError, match="3 Retrains of different seeds are needed, and there are"):
        leave_one_out(retrains[:2])


def test_retrains_with_the_same_outputs():
    """No warning of a logarithm of 0: their ratio is 0, over the floor."""
    retrains = [sets_of_model(5)] * 3
    for figure in leave_one_out(retrains).values():
        assert (figure.value, figure.low, figure.high) == (0, 0, 0)
        assert "the Retrains differ by less than 0.005" in figure.note


def test_the_floor_and_its_note():
    retrains = [sets_of_model(seed, 0.03) for seed in (10, 11)]
    model = sets_of_model(1, 2)
    between = mean_distance("js_ratio_test", *retrains)
    assert 0 < between < FLOOR
    figures = ratio_figures([model], retrains)
    found = figures["js_ratio_test"]
    far = np.mean([mean_distance("js_ratio_test", model, each) for each in retrains])
    assert found.value == pytest.approx(far / 0.005)
    assert found.note == (
        "the Retrains differ by less than 0.005 bits, which takes the place of their distance: "
        "up to 1 is no distance"
    )
    disagreement = figures["disagreement_ratio_test"]
    assert mean_distance("disagreement_ratio_test", *retrains) == 0
    assert "differ by less than 0.005, which" in disagreement.note
    confusion = figures["confusion_ratio_forget"]
    far = np.mean([mean_distance("confusion_ratio_forget", model, each) for each in retrains])
    assert confusion.value == pytest.approx(far**0.5 / 0.005)
    assert "differ by less than 0.005, which" in confusion.note


def test_a_note_is_marked_in_the_table_and_kept_in_the_file():
    note = "a floor"
    columns = {
        "base model": {"js_ratio_test": Figure(2.5, 1, 4, note=note)},
        "this model": {"js_ratio_test": Figure(1234.5), "js_ratio_forget": Figure(1.25, 1, 2)},
    }
    rows = [Row("js_ratio_forget", "JS ratio, forget"), Row("js_ratio_test", "JS ratio, test")]
    *_, forget, test, line = figure_table(rows, columns).split("\n")
    assert forget.split("  ")[-1].strip() == "1.25 [1.00, 2.00]"
    assert "2.50* [1.00, 4.00]" in test and test.endswith("1,234.50")
    assert line == "* JS ratio, test: a floor"
    assert flatten({BASE: columns["base model"]}) == {
        "base_js_ratio_test": 2.5,
        "base_js_ratio_test_low": 1,
        "base_js_ratio_test_high": 4,
        "base_js_ratio_test_note": "a floor",
    }


def test_of_no_image_there_is_no_ratio():
    models = [sets_of_model(seed) for seed in range(4)]
    for sets in models:
        sets["forget"] = LabelledLogits(sets["forget"].logits[:0], sets["forget"].labels[:0])
    for figures in (ratio_figures(models[:1], models[1:]), leave_one_out(models[1:])):
        for key in ("js_ratio_forget", "disagreement_ratio_forget", "confusion_ratio_forget"):
            assert figures[key].why_undefined == "no image"
        assert figures["js_ratio_test"].is_defined


def context_of(seed, retrains=(), multi_label=False, spread=1.0, **fields):
    """A Context with made-up outputs; retrains: those that it is compared with."""
    labels = torch.arange(60) % 4
    if multi_label:
        labels = torch.nn.functional.one_hot(labels, 4)
    outputs = {
        split: make_outputs(random_logits(seed, 60, spread), labels, REQUEST)
        for split in ("train", "val", "test")
    }
    first = retrains[0] if retrains else None
    context = make_context(REQUEST, outputs, retrain=first, **fields)
    context.audit.others = lambda title: list(retrains[1:])
    return context


@pytest.mark.parametrize("multi_label", [False, True])
def test_columns_of_the_models(multi_label):
    retrains = [context_of(10 + seed, multi_label=multi_label) for seed in range(3)]
    found = compute(context_of(1, retrains, multi_label, spread=9))
    outputs = [each.outputs["train"] for each in (context_of(1, spread=9), *retrains)]
    if multi_label:  # on the forget set the finding of the request alone counts
        forget = [part.logits[torch.arange(60) % 4 == 2][:, [2]] for part in outputs]
    else:
        forget = [part.logits[torch.arange(60) % 4 == 2] for part in outputs]
    pairs = {
        (i, j): js_divergences(forget[i], forget[j], multi_label).mean()
        for i, j in combinations(range(4), 2)
    }
    far = np.mean([pairs[0, other] for other in (1, 2, 3)])
    between = np.mean([pairs[1, 2], pairs[1, 3], pairs[2, 3]])
    assert found["js_ratio_forget"].value == pytest.approx(far / between)
    assert found["js_ratio_forget"].low > 1  # nothing like a Retrain
    column = compute(context_of(10, retrains, multi_label, title=RETRAIN))
    assert column.keys() == found.keys() == set(KEYS)
    ends = column["js_ratio_forget"]
    assert ends.low < 1 < ends.high


def test_too_few_retrains():
    help_ = "create more with main_unlearn.py --unlearn Retrain --seed N"
    retrains = [context_of(10), context_of(11)]

    def reasons(retrains, **fields):
        return {
            figure.why_undefined for figure in compute(context_of(1, retrains, **fields)).values()
        }

    needed = "2 Retrains of different seeds are needed, and there"
    assert reasons([]) == {f"{needed} are 0: {help_}"}
    assert reasons(retrains[:1]) == {f"{needed} is 1: {help_}"}
    assert reasons(retrains) == {None}
    of_retrain = reasons(retrains[:1], record={"method": "Retrain"})
    assert of_retrain == {f"this model is Retrain: besides it, {needed} is 1: {help_}"}
    # with one Retrain the columns of the others are empty; with two that of Retrain has a reason
    assert reasons(retrains[:1], title=BASE) == reasons(retrains[:1], title=RETRAIN) == set()
    of_column = (
        "for the column of Retrain, 3 Retrains of different seeds are needed, and there are 2"
    )
    assert reasons(retrains, title=RETRAIN) == {f"{of_column}: {help_}"}
