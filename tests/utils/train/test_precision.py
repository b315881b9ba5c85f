"""What float32 learns stays what it was, and bf16 learns nearly the same."""

import pytest
import torch

from models.architectures import build_model, make_spec
from models.checkpoint import read_record, save_model
from tests.helpers.tiny import same_weights, tiny_model, tiny_set, trained_model
from unlearn.engine.settings import default_config
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.train import precision
from utils.train.losses import classification_loss
from utils.train.precision import AUTO, autocast_to, pick_precision
from utils.train.prediction import predict
from utils.train.recipe import BF16, FLOAT32, Recipe
from utils.train.training import TrainingRun

# (train, val) losses of a tiny_model, as they were before batches were fed and precisions chosen
CURVES = {
    ("sgd", 0.05): (
        [0.831031, 0.036183, 0.004834, 0.002620, 0.001984, 0.001942],
        [0.349564, 0.016246, 0.002945, 0.001686, 0.001424, 0.001396],
    ),
    ("adam", 0.005): (
        [1.274654, 0.883627, 0.598288, 0.420897, 0.341096, 0.316987],
        [1.200607, 0.870272, 0.564713, 0.402603, 0.334281, 0.315830],
    ),
}
CPU = torch.device("cpu")


@pytest.mark.parametrize(("optimizer", "lr"), CURVES)
def test_the_loss_curve_is_what_it_was(optimizer, lr):
    """Weights changed by a millionth move it by as little: what another processor rounds does too.

    In a ResNet-18 at 28 px they move it by some percent within ten steps.
    """
    run = TrainingRun(
        tiny_model(), tiny_set(120), tiny_set(40, seed=1), Recipe(6, lr, 10, optimizer)
    )
    run.run(show=False)
    for key, wanted in zip(("train_loss", "val_loss"), CURVES[optimizer, lr], strict=True):
        found = [epoch[key] for epoch in run.history]
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_bf16_learns_nearly_the_same():
    curves = {}
    for name in (FLOAT32, BF16):
        model = tiny_model()
        run = TrainingRun(
            model, tiny_set(120), tiny_set(40, seed=1), Recipe(6, 0.05, 10, precision=name)
        )
        run.run(show=False)
        curves[name] = [epoch["train_loss"] for epoch in run.history]
        assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert curves[BF16] == pytest.approx(curves[FLOAT32], rel=0.05)
    assert curves[BF16] != curves[FLOAT32]  # it was another precision indeed


def test_gradients_in_bf16_are_those_of_float32_but_for_rounding():
    model, image_set = trained_model(), tiny_set(24)
    found = {}
    for name in (FLOAT32, BF16):
        with autocast_to(model, name):
            loss = classification_loss(model(image_set.images), image_set.labels)
        assert loss.dtype == torch.float32
        found[name] = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]
        )
    error = (found[BF16] - found[FLOAT32]).norm() / found[FLOAT32].norm()
    assert 0 < error < 0.05


def test_what_is_measured_is_in_float32():
    model, image_set = trained_model().eval(), tiny_set(24)
    with autocast_to(model, BF16):
        learning = model(image_set.images)
    measured = predict(model, image_set)
    assert torch.equal(measured, predict(trained_model(), image_set))
    assert not torch.equal(measured, learning)


def test_a_model_in_doubles_answers_in_doubles():
    assert tiny_model().double()(tiny_set(12).images).dtype == torch.float64


def test_an_error_ends_the_precision_too():
    model = tiny_model()
    with pytest.raises(ZeroDivisionError), autocast_to(model, BF16):
        1 / 0  # noqa: B018
    assert not model.use_bf16


@pytest.mark.parametrize(
    "cpuinfo, wanted",
    [
        ("flags\t\t: sse avx512_bf16 amx_tile\n", BF16),
        ("flags\t\t: fpu amx_bf16\n", BF16),
        ("flags\t\t: fpu avx2 avx512f\nmodel\t: avx512_bf16\n", FLOAT32),
        ("", FLOAT32),
    ],
)
def test_auto_goes_by_the_processors_instructions(monkeypatch, tmp_path, cpuinfo, wanted):
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    assert pick_precision(AUTO, CPU) == FLOAT32  # where no processor tells
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert pick_precision(AUTO, CPU) == wanted
    assert pick_precision(FLOAT32, CPU) == FLOAT32 and pick_precision(BF16, CPU) == BF16


def test_a_method_works_in_the_base_models_precision():
    record = {"recipe": {"epochs": 2, "lr": 0.1, "batch_size": 10, "seed": 7, "precision": BF16}}
    recipe = default_config(METHODS["RL"], ForgetRequest((1,)), record).recipe
    assert (recipe.precision, recipe.seed) == (BF16, 7)
    del record["recipe"]["precision"]  # as in models that are older
    assert default_config(METHODS["RL"], ForgetRequest((1,)), record).recipe.precision == FLOAT32


def test_a_record_from_before_there_were_choices_says_what_there_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build_model(make_spec("shufflenet_v2_x0_5", 4, 1, 12), seed=1)
    settings, recipe = {"lr": 0.1}, {"epochs": 2, "lr": 0.1, "batch_size": 10}
    save_model("old", model, {"kind": "unlearned", "settings": settings, "recipe": recipe})
    record, before = read_record("old"), {"precision": FLOAT32, "compiled": False}
    assert record["settings"] == {"lr": 0.1, **before}
    assert record["recipe"] == recipe | before


def test_a_method_learns_in_its_precision():
    request, train_set = ForgetRequest((1,)), tiny_set(24)
    covered = request.members(train_set.labels)
    sets = train_set.subset(covered), train_set.subset(~covered)
    made = {}
    for name in (FLOAT32, BF16):
        record = {"recipe": {"seed": 1, "precision": name}}
        config = default_config(METHODS["FT"], request, record)
        made[name] = METHODS["FT"].run(trained_model(), *sets, config)
    assert not same_weights(*made.values())
    first, second = (predict(model, train_set).softmax(1) for model in made.values())
    assert (first - second).abs().max() < 0.05
