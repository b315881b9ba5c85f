"""Training in float32 has known loss curves; training in bf16 is close to it."""

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

# (train, val) losses of a tiny_model, measured with a plain training loop
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
def test_the_loss_curve_is_unchanged(optimizer, lr):
    """The tolerance allows for the rounding of other CPUs.

    Weights changed by a millionth change this curve by as little; the curve of a ResNet-18 at 28 px
    would change by some percent within ten steps.
    """
    run = TrainingRun(
        tiny_model(), tiny_set(120), tiny_set(40, seed=1), Recipe(6, lr, 10, optimizer)
    )
    run.run(show=False)
    for key, expected in zip(("train_loss", "val_loss"), CURVES[optimizer, lr], strict=True):
        found = [epoch[key] for epoch in run.history]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_training_in_bf16_is_close_to_float32():
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
    assert curves[BF16] != curves[FLOAT32]


def test_gradients_in_bf16_differ_by_rounding_only():
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


def test_predictions_are_in_float32():
    model, image_set = trained_model().eval(), tiny_set(24)
    with autocast_to(model, BF16):
        training_logits = model(image_set.images)
    logits = predict(model, image_set)
    assert torch.equal(logits, predict(trained_model(), image_set))
    assert not torch.equal(logits, training_logits)


def test_a_float64_model_returns_float64_logits():
    assert tiny_model().double()(tiny_set(12).images).dtype == torch.float64


def test_an_error_restores_float32():
    model = tiny_model()
    with pytest.raises(ZeroDivisionError), autocast_to(model, BF16):
        1 / 0  # noqa: B018
    assert not model.use_bf16


@pytest.mark.parametrize(
    "cpuinfo, expected",
    [
        ("flags\t\t: sse avx512_bf16 amx_tile\n", BF16),
        ("flags\t\t: fpu amx_bf16\n", BF16),
        ("flags\t\t: fpu avx2 avx512f\nmodel\t: avx512_bf16\n", FLOAT32),
        ("", FLOAT32),
    ],
)
def test_auto_depends_on_the_instructions_of_the_cpu(monkeypatch, tmp_path, cpuinfo, expected):
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    assert pick_precision(AUTO, CPU) == FLOAT32  # without a cpuinfo file
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert pick_precision(AUTO, CPU) == expected
    assert pick_precision(FLOAT32, CPU) == FLOAT32 and pick_precision(BF16, CPU) == BF16


def test_a_method_uses_the_precision_of_the_base_model():
    record = {"recipe": {"epochs": 2, "lr": 0.1, "batch_size": 10, "seed": 7, "precision": BF16}}
    recipe = default_config(METHODS["RL"], ForgetRequest((1,)), record).recipe
    assert (recipe.precision, recipe.seed) == (BF16, 7)
    del record["recipe"]["precision"]  # as in older models
    assert default_config(METHODS["RL"], ForgetRequest((1,)), record).recipe.precision == FLOAT32


def test_records_without_precision_and_compiled_get_their_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build_model(make_spec("shufflenet_v2_x0_5", 4, 1, 12), seed=1)
    settings, recipe = {"lr": 0.1}, {"epochs": 2, "lr": 0.1, "batch_size": 10}
    save_model("old", model, {"kind": "unlearned", "settings": settings, "recipe": recipe})
    record, defaults = read_record("old"), {"precision": FLOAT32, "compiled": False}
    assert record["settings"] == {"lr": 0.1, **defaults}
    assert record["recipe"] == recipe | defaults


def test_a_method_trains_in_its_precision():
    request, train_set = ForgetRequest((1,)), tiny_set(24)
    covered = request.has_requested_class(train_set.labels)
    sets = train_set.subset(covered), train_set.subset(~covered)
    made = {}
    for name in (FLOAT32, BF16):
        record = {"recipe": {"seed": 1, "precision": name}}
        config = default_config(METHODS["FT"], request, record)
        made[name] = METHODS["FT"].run(trained_model(), *sets, config)
    assert not same_weights(*made.values())
    first, second = (predict(model, train_set).softmax(1) for model in made.values())
    assert (first - second).abs().max() < 0.05
