"""On a real GPU: the figures of the CPU, the same bits at every run, and files that open anywhere.

What is waited for there is counted in test_elsewhere.py.
"""

from dataclasses import replace

import pytest
import torch

from models.architectures import build_model, make_spec
from models.checkpoint import read_record
from tests.helpers.environment import BASE, FORGOTTEN, TRAIN, UNLEARN_ONCE
from tests.helpers.methods import BUILD_ANEW, REQUEST, config_for, real_model
from tests.helpers.tiny import (
    SIZE,
    same_weights,
    split_set,
    tiny_model,
    tiny_set,
    trained_model,
    weights_of,
)
from unlearn.registry import METHODS
from unlearn.saliency import entry_percents, gradient_saliency
from utils.runtime.devices import pick_device
from utils.train import cuda_graphs as replay
from utils.train.precision import pick_precision
from utils.train.prediction import predict
from utils.train.recipe import BF16, FLOAT32, Recipe
from utils.train.training import TrainingRun

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here"),
    # torch tells which operations may differ at every run; here the bits are looked at
    pytest.mark.filterwarnings("ignore:.*deterministic"),
]
ARCHITECTURES = ("resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small", "densenet121", "vgg11")
WITHOUT_DRAWS = ("FT", "RL", "GA", "NegGradPlus", "L1_sparse", "DELETE", "SSD", "SCRUB_R")
NEVER = 10**9
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}  # of some epochs in float32


@pytest.fixture(scope="module")
def gpu():
    yield pick_device("cuda")
    torch.use_deterministic_algorithms(False)


def unlearned(method, device, *, precision=FLOAT32, dropout=0.3):
    model = trained_model(dropout=dropout)
    if method.id in BUILD_ANEW:
        model = real_model(shards=2 if method.needs_shards else 0)
    config = config_for(method, tiny_set(40))
    image_set = tiny_set(40).to(device)
    config = replace(
        config,
        recipe=replace(config.recipe, precision=precision),
        comparable_val=config.comparable_val.to(device),
        retain_val=config.retain_val.to(device),
    )
    return method.run(model.to(device), *split_set(REQUEST, image_set), config)


def assert_close(weights, wanted):
    for name, values in weights_of(wanted).items():
        torch.testing.assert_close(weights_of(weights)[name].cpu(), values.cpu(), **ROUNDING)


@pytest.mark.parametrize("precision", [FLOAT32, BF16])
@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.id)
def test_methods_give_the_same_bits_twice(method, precision, gpu):
    first, second = (unlearned(method, gpu, precision=precision) for _ in range(2))
    assert same_weights(first, second)
    assert {weights.device.type for weights in first.parameters()} == {"cuda"}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.id)
def test_replayed_methods_give_the_same_bits(method, gpu, monkeypatch):
    found = []
    for after in (NEVER, 1):
        monkeypatch.setattr(replay, "EAGER_BATCHES", after)
        found.append(unlearned(method, gpu, precision=BF16))
    assert same_weights(*found)


@pytest.mark.parametrize("method_id", WITHOUT_DRAWS)
def test_methods_do_what_they_do_on_a_cpu(method_id, gpu):
    there, here = (
        unlearned(METHODS[method_id], torch.device(device), dropout=0.0) for device in (gpu, "cpu")
    )
    assert_close(there, here)


def sets_on(device, **kind):
    return [tiny_set(60, seed=seed, **kind).to(device) for seed in (0, 1)]


def trained(model, sets, precision=FLOAT32):
    run = TrainingRun(model, *sets, Recipe(3, 0.02, 16, precision=precision))
    run.run(show=False)
    return run


def small_network(arch):
    return build_model(make_spec(arch, 4, 1, SIZE), seed=1)


@pytest.mark.parametrize("precision", [FLOAT32, BF16])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_training_gives_the_same_bits_twice(arch, precision, gpu):
    first, second = (
        trained(small_network(arch).to(gpu), sets_on(gpu), precision) for _ in range(2)
    )
    assert same_weights(first.model, second.model)
    assert first.history == second.history


@pytest.mark.parametrize("precision", [FLOAT32, BF16])
@pytest.mark.parametrize("arch", [*ARCHITECTURES, "vit_b_16", "efficientnet_b0"])
def test_replayed_training_gives_the_same_bits(arch, precision, gpu, monkeypatch):
    recorded, record = [], replay.record
    monkeypatch.setattr(replay, "record", lambda *args: recorded.append(args) or record(*args))
    runs = []
    for after in (NEVER, 1):
        monkeypatch.setattr(replay, "EAGER_BATCHES", after)
        runs.append(trained(small_network(arch).to(gpu), sets_on(gpu), precision))
    assert same_weights(runs[0].model, runs[1].model)
    assert runs[0].history == runs[1].history
    assert len(recorded) == 2  # whole batches, and the rest of an epoch


def test_a_graphs_memory_is_free_after_its_run(gpu, monkeypatch):
    monkeypatch.setattr(replay, "EAGER_BATCHES", 1)
    held = []
    for _ in range(4):
        trained(small_network("resnet18").to(gpu), sets_on(gpu))
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_reserved(gpu))
    assert max(held[1:]) <= held[0]


def test_what_cannot_be_recorded_is_learned_without(gpu, monkeypatch):
    class Waits(torch.nn.Module):
        def forward(self, values):
            return values * (2 if values.sum().item() > 0 else 1)

    monkeypatch.setattr(replay, "EAGER_BATCHES", 1)
    models = [tiny_model(dropout=0.3).to(gpu) for _ in range(2)]
    for model in models:
        model.network.insert(0, Waits())
        trained(model, sets_on(gpu))
    assert same_weights(*models)


def test_training_in_float32_is_that_of_a_cpu(gpu):
    here, there = (trained(tiny_model().to(where), sets_on(where)) for where in ("cpu", gpu))
    assert_close(there.model, here.model)
    assert not same_weights(tiny_model(), here.model)


def test_images_in_host_memory_train_to_the_same_bits(gpu):
    fed = [images.stream_to(gpu, 2) for images in sets_on("cpu")]
    models = [trained(tiny_model(dropout=0.3).to(gpu), sets).model for sets in (fed, sets_on(gpu))]
    assert same_weights(*models)


def test_a_run_goes_on_on_the_other_kind_of_device(gpu):
    """Momentum and weights lie otherwise on a GPU, with the channels last."""

    def begun(device):
        sets = sets_on(device, channels=3)
        return TrainingRun(tiny_model(channels=3).to(device), *sets, Recipe(4, 0.02, 16))

    whole, there, here = begun("cpu"), begun(gpu), begun("cpu")
    there.run(show=False, epochs=2)
    here.restore({**there.state(), "layer_randomness": None})
    for run in (here, whole):
        run.run(show=False)
    assert len(here.history) == 4
    assert_close(here.model, whole.model)


def test_saliency_and_predictions_are_those_of_a_cpu(gpu):
    image_set, found = tiny_set(60), []
    for device in ("cpu", gpu):
        model = trained_model().to(device)
        forget_set, _ = split_set(REQUEST, image_set.to(device))
        saliency = gradient_saliency(model, forget_set, REQUEST)
        found.append((predict(model, image_set.to(device)), saliency, entry_percents(saliency)))
    (here, slow, percents), (there, fast, others) = found
    torch.testing.assert_close(there.cpu(), here, **ROUNDING)
    for name, values in slow.items():
        torch.testing.assert_close(fast[name].cpu(), values, **ROUNDING)
    for name, values in percents.items():
        assert (others[name].int() - values.int()).abs().max() <= 1


def test_auto_is_bf16(gpu):
    wanted = BF16 if torch.cuda.get_device_capability() >= (8, 0) else FLOAT32
    assert pick_precision("auto", gpu) == wanted


def test_what_was_learned_on_a_gpu_opens_on_a_cpu(done, data_files, workplace):
    data = ("--dataset", data_files["grey"])
    done("main_train", "--save_model_id", "tiny", *TRAIN, *data)
    assert "cpu" not in read_record(BASE)["device"]
    base = ("--model_id", BASE, *data)
    done("generate_mask", *base)
    done("main_unlearn", *base, *UNLEARN_ONCE)
    unlearned = ("--model_id", FORGOTTEN, *data)
    tested = [
        done("main_test", *unlearned, "--device", device, "--no_window").splitlines()[-1]
        for device in ("cuda", "cpu")
    ]
    assert tested[0] == tested[1]
    done("main_test_unlearn", *unlearned)
    done("main_unlearn", *base, "--unlearn", "GA", "--class_to_forget", "2", "--device", "cpu")
