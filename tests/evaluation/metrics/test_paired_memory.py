"""The measure of the paired test: which models are compared, and what the answer says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.audit import BASE, MODEL, RETRAIN
from evaluation.metrics import paired_memory
from evaluation.metrics.paired_memory import (
    CANNOT_TELL,
    FALSE_ALARM,
    NO_CONTROL,
    NOTHING_FOUND,
    OF_CLASSES,
    STILL_KNOWN,
    UNKNOWN,
    compute,
    image_kinds,
    image_margins,
    left_out_tests,
    warnings,
)
from evaluation.outputs import Outputs
from evaluation.pictures import memory_of_images
from evaluation.retrains.paired import paired_test, power
from tests.evaluation.contexts import make_context
from unlearn.request.request import ForgetRequest

IMAGES, FORGOTTEN = 40, 12
REQUEST = ForgetRequest((), tuple(range(FORGOTTEN)))
LABELS = torch.arange(IMAGES) % 2


def logits_of(seed, known):
    """Two-class logits whose margins differ by model; known: what is added to forgotten images."""
    rng = np.random.default_rng(seed)
    margins = 2 + rng.normal(scale=0.3, size=IMAGES)
    margins[:FORGOTTEN] += known
    signs = np.where(LABELS.numpy() == 1, 1, -1)
    return torch.tensor(np.stack([np.zeros(IMAGES), signs * margins], 1))


def outputs_of(seed, known):
    logits, covered = logits_of(seed, known), torch.arange(IMAGES) < FORGOTTEN
    return {
        "train": Outputs(logits, LABELS, None, covered, covered),
        "val": Outputs(logits.flip(0), LABELS.flip(0), None, ~covered, ~covered.flip(0)),
    }


def context_of(title, seed, known, **fields):
    outputs = outputs_of(seed, known)
    return make_context(REQUEST, outputs, title=title, task="multi-class", **fields)


def model_under_test(known, *, base=3.0, retrains=4, shadows=(), record=None, title=MODEL):
    """The Context of a model whose forgotten images have margins that are higher by `known`."""
    others = [context_of(RETRAIN, 100 + number, 0.0) for number in range(retrains)]
    base = None if base is None else context_of(BASE, 50, base)
    record = {"method": "FT"} if record is None else record
    first = others[0] if others else None
    if title == RETRAIN:
        context = first
    else:
        context = context_of(title, 1, known, base=base, retrain=first, record=record)
    context.audit = SimpleNamespace(
        contexts={BASE: base, RETRAIN: first, title: context},
        others=lambda _: others[1:],
        shared=lambda _: list(shadows),
    )
    context.audit.contexts = {key: each for key, each in context.audit.contexts.items() if each}
    return context


def test_figures_are_those_of_the_test():
    context = model_under_test(1.0)
    figures = compute(context)
    others = np.array([image_margins(each) for each in context.retrains()])
    forgotten = np.arange(len(others[0])) < FORGOTTEN
    kinds = np.concatenate([LABELS[:FORGOTTEN], LABELS.flip(0)[: len(others[0]) - FORGOTTEN]])
    test = paired_test(image_margins(context), others, forgotten, kinds)
    control = paired_test(image_margins(context.base), others, forgotten, kinds)
    memory = figures["paired_memory"]
    assert (memory.value, memory.low, memory.high) == (test.difference, test.low, test.high)
    assert figures["paired_memory_p"].value == test.p_value
    expected = power(control.difference, control.error, 4)
    assert figures["paired_memory_power"].value == pytest.approx(expected)


@pytest.mark.parametrize(
    "known, base, answer",
    [
        (3.0, 3.0, STILL_KNOWN),
        (-3.0, 3.0, UNKNOWN),
        (0.0, 3.0, NOTHING_FOUND),
        (0.0, 0.0, CANNOT_TELL),
        (0.0, -3.0, CANNOT_TELL),
        (0.0, None, NO_CONTROL),
    ],
)
def test_the_answer(known, base, answer):
    context = model_under_test(known, base=base)
    context.figures |= compute(context)
    note = context.figures["paired_memory"].note
    assert note.startswith(answer)
    assert bool(warnings(context)) == (answer in (STILL_KNOWN, UNKNOWN))


def test_the_base_model_is_its_own_control():
    context = model_under_test(0.0, base=None, record={"kind": "base"})
    assert compute(context)["paired_memory"].note.startswith(CANNOT_TELL)
    assert NO_CONTROL not in compute(context)["paired_memory"].note


def test_cannot_tell_says_how_many_retrains_may_be_enough(monkeypatch):
    monkeypatch.setattr(paired_memory, "retrains_needed", lambda *_: 9)
    note = compute(model_under_test(0.0, base=0.1))["paired_memory"].note
    assert "about 9 Retrains may be enough, and there are 4" in note
    monkeypatch.setattr(paired_memory, "retrains_needed", lambda *_: None)
    note = compute(model_under_test(0.0, base=0.1))["paired_memory"].note
    assert "even 50 Retrains are too few" in note


@pytest.mark.parametrize("known", [3.0, -3.0])
def test_a_retrain_that_differs_is_a_false_alarm(known):
    context = model_under_test(known, record={"method": "Retrain"})
    context.figures |= compute(context)
    assert context.figures["paired_memory"].note == FALSE_ALARM
    assert warnings(context) == []


def test_a_request_of_classes_is_about_its_images():
    context = model_under_test(3.0)
    context.request = replace(REQUEST, classes=(0, 1), indices=None)
    context.figures |= compute(context)
    assert context.figures["paired_memory"].note == f"{STILL_KNOWN}; {OF_CLASSES}"
    assert len(warnings(context)) == 1


def test_images_without_an_unseen_image_of_their_kind_are_counted():
    context = model_under_test(3.0)
    for each in (*context.retrains(), context.base, context):
        train = each.outputs["train"]
        labels = torch.cat([torch.tensor([2, 3]), train.labels[2:]])
        logits = torch.cat([train.logits, train.logits + 1], 1)
        each.outputs["train"] = replace(train, logits=logits, labels=labels)
    note = compute(context)["paired_memory"].note
    assert "for 2 of 12 images there is no val image of the same kind" in note


def test_multi_label_images_of_the_same_findings_are_of_one_kind():
    context = model_under_test(0.0)
    findings = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])[torch.arange(IMAGES) % 4]
    for part in ("train", "val"):
        context.outputs[part] = replace(context.outputs[part], labels=findings)
    kinds = image_kinds(context)
    assert kinds[:4].tolist() == [0, 2, 1, 3]
    assert (kinds[:FORGOTTEN] == np.tile(kinds[:4], 3)).all()


def test_too_few_retrains_are_a_reason():
    for count in (0, 1):
        figures = compute(model_under_test(0.0, retrains=count))
        assert {figure.value for figure in figures.values()} == {None}
        assert "2 Retrains of different seeds" in figures["paired_memory"].why_undefined


def test_shadow_models_count_as_retrains():
    model = model_under_test(0.0)
    shadows = [image_margins(each) for each in model.retrains()]
    found = compute(model_under_test(0.0, retrains=1, shadows=shadows[1:]))
    assert found["paired_memory_p"].value == compute(model)["paired_memory_p"].value
    assert "3 shadow models of main_mia.py count as Retrains" in found["paired_memory"].note
    assert "shadow" not in compute(model)["paired_memory"].note


def test_two_shadow_models_that_saw_different_halves_are_too_few():
    """An attack that was interrupted after its first pair: each image is unseen by one model."""
    seen = np.arange(len(image_margins(model_under_test(0.0)))) % 2 == 0
    shadows = [np.where(half, np.nan, 1.0) for half in (seen, ~seen)]
    found = compute(model_under_test(0.0, retrains=0, shadows=shadows))
    assert "2 Retrains of different seeds" in found["paired_memory"].why_undefined


def test_retrain_is_compared_with_the_other_retrains():
    context = model_under_test(0.0, title=RETRAIN)
    first, *others = (image_margins(each) for each in context.retrains())
    forgotten = np.arange(len(first)) < FORGOTTEN
    kinds = np.concatenate([LABELS[:FORGOTTEN], LABELS.flip(0)[: len(first) - FORGOTTEN]])
    test = paired_test(first, np.array(others), forgotten, kinds)
    figures = compute(context)
    assert figures["paired_memory_p"].value == test.p_value
    assert "paired_memory_power" not in figures


def with_figures(context):
    """The audit of a Context, in which its own and the base model's figures are computed."""
    for each in filter(None, (context, context.base)):
        each.audit = context.audit
        each.figures |= compute(each)
    return context.audit


def marks_of(picture):
    """Name of a row -> value of its mark."""
    (axes,) = picture.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    marks = [line for line in axes.lines if line.get_marker() in ("o", "*")]
    return {names[int(line.get_ydata()[0])]: float(line.get_xdata()[0]) for line in marks}


def test_each_retrain_is_left_out_once_in_the_picture():
    context = model_under_test(1.0)
    found = marks_of(memory_of_images(with_figures(context), (1, 4, 2, 3), "FT"))
    assert list(found) == [BASE, MODEL, *(f"Retrain, seed {seed}" for seed in (1, 4, 2, 3))]
    assert found[MODEL] == context.figures["paired_memory"].value
    assert found[BASE] == context.base.figures["paired_memory"].value
    margins = [image_margins(each) for each in context.retrains()]
    forgotten = np.arange(len(margins[0])) < FORGOTTEN
    kinds = np.concatenate([LABELS[:FORGOTTEN], LABELS.flip(0)[: len(forgotten) - FORGOTTEN]])
    for place, seed in enumerate((1, 4, 2, 3)):
        others = np.array(margins[:place] + margins[place + 1 :])
        test = paired_test(margins[place], others, forgotten, kinds)
        assert found[f"Retrain, seed {seed}"] == test.difference


def test_two_retrains_are_in_the_picture_only_with_shadow_models():
    context = model_under_test(1.0, base=None, retrains=2)
    assert left_out_tests(context) == [None, None]
    assert list(marks_of(memory_of_images(with_figures(context), (1, 2), "FT"))) == [MODEL]
    shadow = image_margins(context_of(RETRAIN, 200, 0.0))
    context = model_under_test(1.0, base=None, retrains=2, shadows=[shadow])
    found = marks_of(memory_of_images(with_figures(context), (1, 2), "FT"))
    assert list(found) == [MODEL, "Retrain, seed 1", "Retrain, seed 2"]


def test_without_a_test_there_is_no_picture():
    context = model_under_test(1.0, retrains=1)
    assert memory_of_images(context.audit, (1,), "FT") is None
    assert memory_of_images(with_figures(context), (1,), "FT") is None
