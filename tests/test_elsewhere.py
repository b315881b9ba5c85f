"""What works on a GPU, as far as no GPU is needed to see it: see elsewhere.py."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch

from elsewhere import ELSEWHERE, Elsewhere
from evaluation.measures import attack_scores, sets_of
from evaluation.outputs import look_at
from evaluation.relearn import relearn_steps
from test_methods import BUILD_ANEW, REQUEST, config_for
from tiny import split_set, tiny_dataset, tiny_set, trained_model
from unlearn.methods import METHODS
from unlearn.request import ForgetRequest
from unlearn.saliency import entry_percents, gradient_saliency
from utils.prediction import predict
from utils.training import Recipe, TrainingRun

FEW = {"steps": 2, "noise": 6, "images": 12}  # options that take time and change nothing here
WAIT_FOR_EACH_BATCH = ("AMUN", "MUMis")  # a search that ends when it has found, a stop at the step
# those that build a network anew are a training run and what comes before it, and take long
TRIED = [
    method for method in METHODS.values() if not method.uses_mask and method.id not in BUILD_ANEW
]
TRIED.append(METHODS["RL_with_SalUn"])
by_task = pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])


@pytest.fixture(autouse=True)
def optimizers_of_any_device(monkeypatch):
    """Fused ones take the devices alone that they have kernels for."""
    for name in ("SGD", "Adam", "AdamW"):
        monkeypatch.setattr(torch.optim, name, partial(unfused, getattr(torch.optim, name)))


def unfused(kind, *weights, fused=None, **settings):
    return kind(*weights, **settings)


def halves(request, image_set):
    """The forget and the retain set elsewhere; who is in them is told by the CPU's labels."""
    covered, there = request.members(image_set.labels), image_set.to(ELSEWHERE)
    return [there.subset(part.nonzero()[:, 0].to(ELSEWHERE)) for part in (covered, ~covered)]


def waits_of(method, batch_size, multi_label=False, fed=False):
    image_set = tiny_set(24, multi_label=multi_label)
    model = trained_model(multi_label=multi_label, dropout=0.3)
    config = config_for(method, image_set)
    config = replace(
        config,
        recipe=replace(config.recipe, epochs=1, batch_size=batch_size),
        options={name: FEW.get(name, value) for name, value in config.options.items()},
        comparable_val=config.comparable_val.to(ELSEWHERE),
        retain_val=config.retain_val.to(ELSEWHERE),
    )
    sets = [part.fed_to(ELSEWHERE, 2) for part in split_set(REQUEST, image_set)]
    if not fed:
        sets = halves(REQUEST, image_set)
    with Elsewhere() as elsewhere:
        method.run(model.to(ELSEWHERE), *sets, config)
    return Counter(elsewhere.waits)


@pytest.mark.parametrize("method", TRIED, ids=lambda method: method.id)
def test_methods_wait_for_no_batch(method):
    few, many = waits_of(method, 6), waits_of(method, 3)
    if method.id in WAIT_FOR_EACH_BATCH:
        assert many.total() > few.total()
    else:
        assert many == few


@pytest.mark.parametrize("method_id", ["FT", "UAM"])  # one set, and a pair of sets
def test_batches_are_brought_there_without_waiting(method_id):
    few, many = (waits_of(METHODS[method_id], size, fed=True) for size in (6, 3))
    assert many == few


@pytest.mark.parametrize(
    "method", [each for each in TRIED if not each.one_label], ids=lambda method: method.id
)
def test_methods_keep_findings_on_their_device(method):
    waits_of(method, 6, multi_label=True)


@by_task
def test_training_waits_for_no_batch(multi_label):
    found = []
    for batch_size in (30, 5):
        sets = [tiny_set(60, multi_label=multi_label).to(ELSEWHERE) for _ in range(2)]
        with Elsewhere() as elsewhere:
            run = TrainingRun(
                trained_model(dropout=0.3).to(ELSEWHERE), *sets, Recipe(2, 0.01, batch_size)
            )
            run.run(show=False)
        found.append(Counter(elsewhere.waits))
    assert found[0] == found[1]


@by_task
def test_saliency_and_predictions_wait_for_no_batch(multi_label):
    model = trained_model(multi_label=multi_label).to(ELSEWHERE)
    forget_set, _ = halves(REQUEST, tiny_set(60, multi_label=multi_label))
    found = []
    for batch_size in (60, 5):
        with Elsewhere() as elsewhere:
            saliency = gradient_saliency(model, forget_set, REQUEST, batch_size)
            logits = predict(model, forget_set, batch_size)
        assert logits.device == ELSEWHERE and logits.shape == (len(forget_set), 4)
        assert all(part.device == ELSEWHERE for part in saliency.values())
        found.append(elsewhere.waits)
    assert found == [[], []]
    with Elsewhere():
        percents = entry_percents(saliency)
    assert all(part.device.type == "cpu" for part in percents.values())


@by_task
def test_measures_take_their_figures_from_there(multi_label):
    dataset = tiny_dataset(multi_label=multi_label)
    request = ForgetRequest((1,))
    covered = {name: request.covered(dataset, name) for name in dataset.splits}
    with Elsewhere():
        outputs = look_at(trained_model().to(ELSEWHERE), dataset.to(ELSEWHERE), request)
        for name, part in outputs.items():
            assert len(part) == len(covered[name])
            assert {part.logits.device.type, part.features.device.type} == {"cpu"}
        sets_of(outputs), attack_scores(outputs, request, "val")


def test_relearning_stays_on_its_device():
    forget_set, _ = halves(REQUEST, tiny_set(60))
    with Elsewhere():
        assert relearn_steps(trained_model().to(ELSEWHERE), forget_set, REQUEST).value == 0


def test_mixed_devices_are_seen():
    there = torch.zeros(3, device=ELSEWHERE)
    with Elsewhere(), pytest.raises(RuntimeError, match="cpu"):
        there + torch.ones(3)
    with Elsewhere(), pytest.raises(RuntimeError, match="cpu"):
        torch.cat([there, torch.ones(3)])
    with Elsewhere(), pytest.raises(AssertionError, match="generator"):
        torch.rand(3, generator=torch.Generator(), device=ELSEWHERE)


def test_waits_are_seen():
    there = torch.zeros(3, device=ELSEWHERE)
    for wait in (
        lambda: there.sum().item(),
        lambda: bool(there.isfinite().all()),
        lambda: float(there[0]),
        lambda: there.cpu(),
        lambda: there.tolist(),
        lambda: there[there > 0],
        lambda: torch.equal(there, there),
        lambda: torch.zeros(3).copy_(there),
        lambda: torch.zeros(3).to(ELSEWHERE),
        lambda: torch.zeros(3, device=ELSEWHERE).copy_(torch.ones(3)),
        lambda: there[torch.tensor([0, 2])],
        lambda: there.index_put_((there > 0,), torch.zeros((), device=ELSEWHERE)),
    ):
        with Elsewhere() as elsewhere:
            there * 2
            assert elsewhere.waits == []
            wait()
        assert elsewhere.waits
    with Elsewhere() as elsewhere:
        torch.ones(3).to(ELSEWHERE, non_blocking=True)
        assert elsewhere.waits == []
    with torch.inference_mode(), Elsewhere() as elsewhere:
        assert bool(there.isfinite().all()) and elsewhere.waits
