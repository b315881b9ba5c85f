"""Training and evaluation need no synchronization with a GPU per batch.

Each test runs with a simulated device (tests/helpers/simulated_device.py), and on a GPU if there is
one.
"""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch

from evaluation.metrics.membership import attack_scores
from evaluation.metrics.relearn import relearn_steps
from evaluation.outputs import compute_outputs, sets_of
from tests.evaluation.contexts import make_context
from tests.helpers.methods import REQUEST, TRAIN_FROM_SCRATCH, config_for
from tests.helpers.simulated_device import GpuSyncCounter, SimulatedDevice
from tests.helpers.tiny import split_set, tiny_dataset, tiny_set, trained_model
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_percentiles, gradient_saliency
from utils.runtime.devices import to_device_async
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

SMALL_OPTIONS = {"steps": 2, "noise": 6, "images": 12}  # smaller values save time
SYNC_EACH_BATCH = ("AMUN", "MUMis")  # they stop a search early, or stop within an epoch
# methods that train from scratch consist of a training run, and take long
TESTED = [
    method
    for method in METHODS.values()
    if not method.uses_mask and method.id not in TRAIN_FROM_SCRATCH
]
TESTED.append(METHODS["RL_with_SalUn"])
by_task = pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])


@pytest.fixture(params=[SimulatedDevice, GpuSyncCounter])
def counter(request, monkeypatch):
    """The context manager that counts synchronizations; its `device` is the one to use."""
    if request.param is SimulatedDevice:  # fused optimizers have no kernels for meta tensors
        for name in ("SGD", "Adam", "AdamW"):
            monkeypatch.setattr(torch.optim, name, partial(unfused, getattr(torch.optim, name)))
    elif not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return request.param


def unfused(kind, *weights, fused=None, **settings):
    return kind(*weights, **settings)


def halves(image_set, device):
    """Return the forget and the retain set on `device`, selected by labels on the CPU."""
    covered, moved = REQUEST.has_requested_class(image_set.labels), image_set.to(device)
    return [moved.subset(part.nonzero()[:, 0].to(device)) for part in (covered, ~covered)]


def syncs_of(counter, method, batch_size, multi_label=False, streamed=False):
    image_set = tiny_set(24, multi_label=multi_label)
    model = trained_model(multi_label=multi_label, dropout=0.3)
    config = config_for(method, image_set)
    config = replace(
        config,
        recipe=replace(config.recipe, epochs=1, batch_size=batch_size),
        options={name: SMALL_OPTIONS.get(name, value) for name, value in config.options.items()},
        matching_val=config.matching_val.to(counter.device),
        retain_val=config.retain_val.to(counter.device),
    )
    sets = [part.stream_to(counter.device, 2) for part in split_set(REQUEST, image_set)]
    if not streamed:
        sets = halves(image_set, counter.device)
    with counter() as counted:
        method.run(model.to(counter.device), *sets, config)
    return Counter(counted.syncs)


@pytest.mark.parametrize("method", TESTED, ids=lambda method: method.id)
def test_methods_do_not_synchronize_per_batch(counter, method):
    few, many = syncs_of(counter, method, 6), syncs_of(counter, method, 3)
    if method.id in SYNC_EACH_BATCH:
        assert many.total() > few.total()
    else:
        assert many == few


@pytest.mark.parametrize("method_id", ["FT", "UAM"])  # one set, and a pair of sets
def test_batches_are_copied_without_synchronization(counter, method_id):
    few, many = (syncs_of(counter, METHODS[method_id], size, streamed=True) for size in (6, 3))
    assert many == few


@pytest.mark.parametrize(
    "method", [each for each in TESTED if not each.single_label_only], ids=lambda method: method.id
)
def test_methods_keep_findings_on_their_device(counter, method):
    syncs_of(counter, method, 6, multi_label=True)


@by_task
def test_training_does_not_synchronize_per_batch(counter, multi_label):
    found = []
    for batch_size in (30, 5):
        sets = [tiny_set(60, multi_label=multi_label).to(counter.device) for _ in range(2)]
        with counter() as counted:
            run = TrainingRun(
                trained_model(dropout=0.3).to(counter.device), *sets, Recipe(2, 0.01, batch_size)
            )
            run.run(show=False)
        found.append(Counter(counted.syncs))
    assert found[0] == found[1]


@by_task
def test_saliency_and_predictions_do_not_synchronize(counter, multi_label):
    model = trained_model(multi_label=multi_label).to(counter.device)
    forget_set, _ = halves(tiny_set(60, multi_label=multi_label), counter.device)
    found = []
    for batch_size in (60, 5):
        with counter() as counted:
            saliency = gradient_saliency(model, forget_set, REQUEST, batch_size)
            logits = predict(model, forget_set, batch_size)
        assert logits.device.type == counter.device.type and logits.shape == (len(forget_set), 4)
        assert {part.device.type for part in saliency.values()} == {counter.device.type}
        found.append(counted.syncs)
    assert found == [[], []]
    with counter():
        percents = compute_percentiles(saliency)
    assert all(part.device.type == "cpu" for part in percents.values())


@by_task
def test_outputs_are_copied_to_the_cpu_for_the_measures(counter, multi_label):
    dataset = tiny_dataset(multi_label=multi_label)
    request = ForgetRequest((1,))
    covered = {name: request.in_forget_set(dataset, name) for name in dataset.splits}
    with counter():
        outputs = compute_outputs(
            trained_model().to(counter.device), dataset.to(counter.device), request
        )
        for name, part in outputs.items():
            assert len(part) == len(covered[name])
            assert {part.logits.device.type, part.features.device.type} == {"cpu"}
        sets_of(outputs), attack_scores(make_context(request, outputs))


def test_relearning_stays_on_its_device(counter):
    forget_set, _ = halves(tiny_set(60), counter.device)
    with counter():
        assert relearn_steps(trained_model().to(counter.device), forget_set, REQUEST).value == 0


def test_mixed_devices_are_an_error():
    values = torch.zeros(3, device=SimulatedDevice.device)
    with SimulatedDevice(), pytest.raises(RuntimeError, match="cpu"):
        values + torch.ones(3)
    with SimulatedDevice(), pytest.raises(RuntimeError, match="cpu"):
        torch.cat([values, torch.ones(3)])
    with SimulatedDevice(), pytest.raises(AssertionError, match="generator"):
        torch.rand(3, generator=torch.Generator(), device=SimulatedDevice.device)


SYNCS = {
    "item": lambda values: values.sum().item(),
    "truth": lambda values: bool(values.isfinite().all()),
    "number": lambda values: float(values[0]),
    "to the CPU": lambda values: values.cpu(),
    "list": lambda values: values.tolist(),
    "mask": lambda values: values[values > 0],
    "equal": lambda values: torch.equal(values, values),
    "copy from the device": lambda values: torch.zeros(3).copy_(values),
    "to the device": lambda values: torch.zeros(3).to(values.device),
    "copy to the device": lambda values: torch.zeros_like(values).copy_(torch.ones(3)),
    "put by a mask": lambda values: values.index_put_((values > 0,), values.clone()),
}


@pytest.mark.parametrize("name", SYNCS)
def test_synchronizations_are_counted(counter, name):
    values = torch.ones(3).to(counter.device)
    with counter() as counted:
        values * 2
        assert counted.syncs == []
        SYNCS[name](values)
    assert counted.syncs


def test_an_index_on_the_cpu_is_counted():
    """Newer versions of torch copy it to a GPU without synchronization."""
    with SimulatedDevice() as counted:
        torch.ones(3, device=SimulatedDevice.device)[torch.tensor([0, 2])]
    assert counted.syncs


def test_asynchronous_copies_are_not_counted(counter):
    with counter() as counted:
        to_device_async(torch.ones(3), counter.device)
    assert counted.syncs == []


def test_synchronizations_are_counted_in_inference_mode(counter):
    values = torch.ones(3).to(counter.device)
    with torch.inference_mode(), counter() as counted:
        assert bool(values.isfinite().all())
    assert counted.syncs
