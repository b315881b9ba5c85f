"""What waits for a GPU; as far as no GPU is needed to see it, without one (elsewhere.py)."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch

from evaluation.metrics.membership import attack_scores
from evaluation.metrics.relearn import relearn_steps
from evaluation.outputs import compute_outputs, sets_of
from tests.helpers.contexts import make_context
from tests.helpers.methods import BUILD_ANEW, REQUEST, config_for
from tests.helpers.simulated_device import GpuSyncCounter, SimulatedDevice
from tests.helpers.tiny import split_set, tiny_dataset, tiny_set, trained_model
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from unlearn.saliency import entry_percents, gradient_saliency
from utils.runtime.devices import to_device_async
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

FEW = {"steps": 2, "noise": 6, "images": 12}  # options that take time and change nothing here
WAIT_FOR_EACH_BATCH = ("AMUN", "MUMis")  # a search that ends when it has found, a stop at the step
# those that build a network anew are a training run and what comes before it, and take long
TRIED = [
    method for method in METHODS.values() if not method.uses_mask and method.id not in BUILD_ANEW
]
TRIED.append(METHODS["RL_with_SalUn"])
by_task = pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])


@pytest.fixture(params=[SimulatedDevice, GpuSyncCounter])
def there(request, monkeypatch):
    """What watches the work, and has the device."""
    if (
        request.param is SimulatedDevice
    ):  # fused optimizers take the devices that they have kernels for
        for name in ("SGD", "Adam", "AdamW"):
            monkeypatch.setattr(torch.optim, name, partial(unfused, getattr(torch.optim, name)))
    elif not torch.cuda.is_available():
        pytest.skip("no GPU is here")
    return request.param


def unfused(kind, *weights, fused=None, **settings):
    return kind(*weights, **settings)


def halves(image_set, device):
    """The forget and the retain set there; who is in them is told by the CPU's labels."""
    covered, moved = REQUEST.members(image_set.labels), image_set.to(device)
    return [moved.subset(part.nonzero()[:, 0].to(device)) for part in (covered, ~covered)]


def waits_of(there, method, batch_size, multi_label=False, fed=False):
    image_set = tiny_set(24, multi_label=multi_label)
    model = trained_model(multi_label=multi_label, dropout=0.3)
    config = config_for(method, image_set)
    config = replace(
        config,
        recipe=replace(config.recipe, epochs=1, batch_size=batch_size),
        options={name: FEW.get(name, value) for name, value in config.options.items()},
        comparable_val=config.comparable_val.to(there.device),
        retain_val=config.retain_val.to(there.device),
    )
    sets = [part.stream_to(there.device, 2) for part in split_set(REQUEST, image_set)]
    if not fed:
        sets = halves(image_set, there.device)
    with there() as watched:
        method.run(model.to(there.device), *sets, config)
    return Counter(watched.waits)


@pytest.mark.parametrize("method", TRIED, ids=lambda method: method.id)
def test_methods_wait_for_no_batch(there, method):
    few, many = waits_of(there, method, 6), waits_of(there, method, 3)
    if method.id in WAIT_FOR_EACH_BATCH:
        assert many.total() > few.total()
    else:
        assert many == few


@pytest.mark.parametrize("method_id", ["FT", "UAM"])  # one set, and a pair of sets
def test_batches_are_brought_there_without_waiting(there, method_id):
    few, many = (waits_of(there, METHODS[method_id], size, fed=True) for size in (6, 3))
    assert many == few


@pytest.mark.parametrize(
    "method", [each for each in TRIED if not each.one_label], ids=lambda method: method.id
)
def test_methods_keep_findings_on_their_device(there, method):
    waits_of(there, method, 6, multi_label=True)


@by_task
def test_training_waits_for_no_batch(there, multi_label):
    found = []
    for batch_size in (30, 5):
        sets = [tiny_set(60, multi_label=multi_label).to(there.device) for _ in range(2)]
        with there() as watched:
            run = TrainingRun(
                trained_model(dropout=0.3).to(there.device), *sets, Recipe(2, 0.01, batch_size)
            )
            run.run(show=False)
        found.append(Counter(watched.waits))
    assert found[0] == found[1]


@by_task
def test_saliency_and_predictions_wait_for_no_batch(there, multi_label):
    model = trained_model(multi_label=multi_label).to(there.device)
    forget_set, _ = halves(tiny_set(60, multi_label=multi_label), there.device)
    found = []
    for batch_size in (60, 5):
        with there() as watched:
            saliency = gradient_saliency(model, forget_set, REQUEST, batch_size)
            logits = predict(model, forget_set, batch_size)
        assert logits.device.type == there.device.type and logits.shape == (len(forget_set), 4)
        assert {part.device.type for part in saliency.values()} == {there.device.type}
        found.append(watched.waits)
    assert found == [[], []]
    with there():
        percents = entry_percents(saliency)
    assert all(part.device.type == "cpu" for part in percents.values())


@by_task
def test_measures_take_their_figures_from_there(there, multi_label):
    dataset = tiny_dataset(multi_label=multi_label)
    request = ForgetRequest((1,))
    covered = {name: request.covered(dataset, name) for name in dataset.splits}
    with there():
        outputs = compute_outputs(
            trained_model().to(there.device), dataset.to(there.device), request
        )
        for name, part in outputs.items():
            assert len(part) == len(covered[name])
            assert {part.logits.device.type, part.features.device.type} == {"cpu"}
        sets_of(outputs), attack_scores(make_context(request, outputs))


def test_relearning_stays_on_its_device(there):
    forget_set, _ = halves(tiny_set(60), there.device)
    with there():
        assert relearn_steps(trained_model().to(there.device), forget_set, REQUEST).value == 0


def test_mixed_devices_are_seen():
    there = torch.zeros(3, device=SimulatedDevice.device)
    with SimulatedDevice(), pytest.raises(RuntimeError, match="cpu"):
        there + torch.ones(3)
    with SimulatedDevice(), pytest.raises(RuntimeError, match="cpu"):
        torch.cat([there, torch.ones(3)])
    with SimulatedDevice(), pytest.raises(AssertionError, match="generator"):
        torch.rand(3, generator=torch.Generator(), device=SimulatedDevice.device)


WAITS = {
    "item": lambda there: there.sum().item(),
    "truth": lambda there: bool(there.isfinite().all()),
    "number": lambda there: float(there[0]),
    "to the CPU": lambda there: there.cpu(),
    "list": lambda there: there.tolist(),
    "mask": lambda there: there[there > 0],
    "equal": lambda there: torch.equal(there, there),
    "copy from there": lambda there: torch.zeros(3).copy_(there),
    "to there": lambda there: torch.zeros(3).to(there.device),
    "copy to there": lambda there: torch.zeros_like(there).copy_(torch.ones(3)),
    "put by a mask": lambda there: there.index_put_((there > 0,), there.clone()),
}


@pytest.mark.parametrize("name", WAITS)
def test_waits_are_seen(there, name):
    values = torch.ones(3).to(there.device)
    with there() as watched:
        values * 2
        assert watched.waits == []
        WAITS[name](values)
    assert watched.waits


def test_an_index_of_the_cpus_is_seen():
    """Newer versions of torch bring it to a GPU without waiting."""
    with SimulatedDevice() as watched:
        torch.ones(3, device=SimulatedDevice.device)[torch.tensor([0, 2])]
    assert watched.waits


def test_what_is_brought_is_not_waited_for(there):
    with there() as watched:
        to_device_async(torch.ones(3), there.device)
    assert watched.waits == []


def test_waits_are_seen_in_inference_mode(there):
    values = torch.ones(3).to(there.device)
    with torch.inference_mode(), there() as watched:
        assert bool(values.isfinite().all())
    assert watched.waits
