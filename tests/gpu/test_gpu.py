"""On a real GPU: the results of the CPU, bitwise identical repetitions, and portable files.

Synchronizations between CPU and GPU are counted in test_elsewhere.py.
"""

from dataclasses import replace

import pytest
import torch

from models.architectures import build_model, make_spec
from models.checkpoint import read_record
from tests.helpers.environment import BASE, FORGOTTEN, TRAIN, UNLEARN_ONCE
from tests.helpers.methods import REQUEST, TRAIN_FROM_SCRATCH, config_for, real_model
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
from unlearn.saliency import compute_percentiles, gradient_saliency
from utils.runtime.devices import pick_device
from utils.train import cuda_graphs
from utils.train.precision import pick_precision
from utils.train.prediction import predict
from utils.train.recipe import BF16, FLOAT32, Recipe
from utils.train.training import TrainingRun

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    # torch warns of operations that may not be deterministic; these tests compare the bits
    pytest.mark.filterwarnings("ignore:.*deterministic"),
]
ARCHITECTURES = ("resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small", "densenet121", "vgg11")
WITHOUT_RANDOMNESS = ("FT", "RL", "GA", "NegGradPlus", "L1_sparse", "DELETE", "SSD", "SCRUB_R")
NEVER = 10**9
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}  # after some epochs in float32


@pytest.fixture(scope="module")
def gpu():
    yield pick_device("cuda")
    torch.use_deterministic_algorithms(False)


def unlearned(method, device, *, precision=FLOAT32, dropout=0.3):
    model = trained_model(dropout=dropout)
    if method.id in TRAIN_FROM_SCRATCH:
        model = real_model(shards=2 if method.needs_shards else 0)
    config = config_for(method, tiny_set(40))
    image_set = tiny_set(40).to(device)
    config = replace(
        config,
        recipe=replace(config.recipe, precision=precision),
        matching_val=config.matching_val.to(device),
        retain_val=config.retain_val.to(device),
    )
    return method.run(model.to(device), *split_set(REQUEST, image_set), config)


def assert_close(weights, expected):
    for name, values in weights_of(expected).items():
        torch.testing.assert_close(weights_of(weights)[name].cpu(), values.cpu(), **ROUNDING)


@pytest.mark.parametrize("precision", [FLOAT32, BF16])
@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.id)
def test_methods_are_deterministic(method, precision, gpu):
    first, second = (unlearned(method, gpu, precision=precision) for _ in range(2))
    assert same_weights(first, second)
    assert {weights.device.type for weights in first.parameters()} == {"cuda"}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.id)
def test_methods_are_bitwise_identical_with_graphs(method, gpu, monkeypatch):
    found = []
    for after in (NEVER, 1):
        monkeypatch.setattr(cuda_graphs, "EAGER_BATCHES", after)
        found.append(unlearned(method, gpu, precision=BF16))
    assert same_weights(*found)


@pytest.mark.parametrize("method_id", WITHOUT_RANDOMNESS)
def test_methods_give_the_weights_of_a_cpu(method_id, gpu):
    on_gpu, on_cpu = (
        unlearned(METHODS[method_id], torch.device(device), dropout=0.0) for device in (gpu, "cpu")
    )
    assert_close(on_gpu, on_cpu)


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
def test_training_is_deterministic(arch, precision, gpu):
    first, second = (
        trained(small_network(arch).to(gpu), sets_on(gpu), precision) for _ in range(2)
    )
    assert same_weights(first.model, second.model)
    assert first.history == second.history


@pytest.mark.parametrize("precision", [FLOAT32, BF16])
@pytest.mark.parametrize("arch", [*ARCHITECTURES, "vit_b_16", "efficientnet_b0"])
def test_training_is_bitwise_identical_with_graphs(arch, precision, gpu, monkeypatch):
    captured, capture = [], cuda_graphs.capture_graph
    monkeypatch.setattr(
        cuda_graphs, "capture_graph", lambda *args: captured.append(args) or capture(*args)
    )
    runs = []
    for after in (NEVER, 1):
        monkeypatch.setattr(cuda_graphs, "EAGER_BATCHES", after)
        runs.append(trained(small_network(arch).to(gpu), sets_on(gpu), precision))
    assert same_weights(runs[0].model, runs[1].model)
    assert runs[0].history == runs[1].history
    assert len(captured) == 2  # full batches, and the last batch of an epoch


def test_the_memory_of_a_graph_is_freed_after_its_run(gpu, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "EAGER_BATCHES", 1)
    reserved = []
    for _ in range(4):
        trained(small_network("resnet18").to(gpu), sets_on(gpu))
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved(gpu))
    assert max(reserved[1:]) <= reserved[0]


def test_a_network_that_cannot_be_captured_is_trained_without_graphs(gpu, monkeypatch):
    class Synchronizes(torch.nn.Module):
        def forward(self, values):
            return values * (2 if values.sum().item() > 0 else 1)

    monkeypatch.setattr(cuda_graphs, "EAGER_BATCHES", 1)
    models = [tiny_model(dropout=0.3).to(gpu) for _ in range(2)]
    for model in models:
        model.network.insert(0, Synchronizes())
        trained(model, sets_on(gpu))
    assert same_weights(*models)


def test_training_in_float32_gives_the_weights_of_a_cpu(gpu):
    on_cpu, on_gpu = (trained(tiny_model().to(device), sets_on(device)) for device in ("cpu", gpu))
    assert_close(on_gpu.model, on_cpu.model)
    assert not same_weights(tiny_model(), on_cpu.model)


def test_images_in_host_memory_give_bitwise_identical_weights(gpu):
    streamed = [images.stream_to(gpu, 2) for images in sets_on("cpu")]
    models = [
        trained(tiny_model(dropout=0.3).to(gpu), sets).model for sets in (streamed, sets_on(gpu))
    ]
    assert same_weights(*models)


def test_a_run_resumes_on_another_type_of_device(gpu):
    """On a GPU weights and momentum are channels-last."""

    def new_run(device):
        sets = sets_on(device, channels=3)
        return TrainingRun(tiny_model(channels=3).to(device), *sets, Recipe(4, 0.02, 16))

    whole, on_gpu, resumed = new_run("cpu"), new_run(gpu), new_run("cpu")
    on_gpu.run(show=False, epochs=2)
    resumed.restore({**on_gpu.state(), "layer_randomness": None})
    for run in (resumed, whole):
        run.run(show=False)
    assert len(resumed.history) == 4
    assert_close(resumed.model, whole.model)


def test_saliency_and_predictions_match_a_cpu(gpu):
    image_set, found = tiny_set(60), []
    for device in ("cpu", gpu):
        model = trained_model().to(device)
        forget_set, _ = split_set(REQUEST, image_set.to(device))
        saliency = gradient_saliency(model, forget_set, REQUEST)
        found.append(
            (predict(model, image_set.to(device)), saliency, compute_percentiles(saliency))
        )
    (cpu_logits, cpu_saliency, percents), (gpu_logits, gpu_saliency, others) = found
    torch.testing.assert_close(gpu_logits.cpu(), cpu_logits, **ROUNDING)
    for name, values in cpu_saliency.items():
        torch.testing.assert_close(gpu_saliency[name].cpu(), values, **ROUNDING)
    for name, values in percents.items():
        assert (others[name].int() - values.int()).abs().max() <= 1


def test_auto_is_bf16(gpu):
    expected = BF16 if torch.cuda.get_device_capability() >= (8, 0) else FLOAT32
    assert pick_precision("auto", gpu) == expected


def test_a_model_trained_on_a_gpu_loads_on_a_cpu(done, data_files, workplace):
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
