"""Risky images get uniform targets, the others wrong labels; the option for risky classes."""

from dataclasses import replace

import pytest
import torch

from models.checkpoint import load_model
from tests.helpers.environment import BASE, model_flags
from tests.helpers.tiny import split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import Option, format_option
from unlearn.engine.settings import default_config, override_config
from unlearn.model_ids import parse_unlearned_model_id, unlearned_model_id
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError
from utils.train.prediction import predict
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
RECIPE = Recipe(15, 0.03, 10)
SETS = split_set(REQUEST, tiny_set(120))


def unlearned(method="CRA", risky=(), recipe=RECIPE, sets=SETS):
    config = UnlearnConfig(REQUEST, recipe, {"risky": risky}, show=False)
    return METHODS[method].run(trained_model(), *sets, config)


def test_risky_images_get_uniform_predictions_and_the_rest_is_kept():
    model = unlearned()
    forgotten = predict(model, SETS[0]).softmax(1)
    assert (forgotten.mean(0) - 0.25).abs().max() < 0.05
    assert forgotten.max(1).values.mean() < 0.4
    kept = predict(model, SETS[1]).argmax(1) == SETS[1].labels
    assert kept.float().mean() > 0.9
    assert forgotten.max() < predict(unlearned("RL"), SETS[0]).softmax(1).max()


def test_images_that_are_not_risky_get_random_labels():
    plain, other = weights_of(unlearned("RL")), weights_of(unlearned(risky=(0, 2)))
    for name in plain:
        torch.testing.assert_close(other[name], plain[name], rtol=1e-3, atol=1e-4)
    named, default = weights_of(unlearned(risky=(1, 3))), weights_of(unlearned())
    assert all(torch.equal(named[name], default[name]) for name in named)
    assert any(not torch.allclose(named[name], plain[name]) for name in named)


def test_one_step_towards_uniform_predictions():
    """By hand: one batch, in which half of the forget set is risky."""
    image_set = tiny_set(24)
    sets = image_set.subset(image_set.labels < 2), image_set.subset(image_set.labels >= 2)
    recipe = replace(RECIPE, epochs=1, batch_size=100, weight_decay=0.0)
    seen = {}

    def spied(labels, num_classes, request, generator):
        seen["wrong"] = (labels + 2) % 4
        return seen["wrong"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unlearn.methods.clinical_risk.draw_wrong_labels", spied)
        after = unlearned(risky=(1,), recipe=recipe, sets=sets)
    reference = trained_model().train()
    logs = reference(torch.cat([part.batch(slice(None))[0] for part in sets])).log_softmax(1)
    labels = torch.cat([seen["wrong"], sets[1].labels])
    losses = -logs[torch.arange(24), labels]
    risky = torch.cat([sets[0].labels == 1, torch.zeros(12, dtype=torch.bool)])
    torch.where(risky, -logs.mean(1), losses).mean().backward()
    start = dict(trained_model().named_parameters())
    for (name, now), part in zip(after.named_parameters(), reference.parameters(), strict=True):
        expected = start[name] - 1.9 * recipe.lr * part.grad  # Nesterov's first step
        torch.testing.assert_close(now, expected, rtol=1e-4, atol=1e-6)


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="risky: class 4 does not exist: give 0 to 3"):
        unlearned(risky=(0, 4))


@pytest.mark.parametrize(
    ("text", "value", "written"),
    [("3", (3,), "3"), ("3,0,3", (0, 3), "0,3"), ("all", (), "all"), ("ALL", (), "all")],
)
def test_classes_are_read_and_written(text, value, written):
    option = Option((), "classes")
    assert option.parse(text) == value and format_option(value) == written
    assert option.parse(written) == value


@pytest.mark.parametrize("text", ["", "a", "0,", "0.5", "1 2"])
def test_invalid_classes_are_refused(text):
    config = default_config(METHODS["CRA"], REQUEST, {})
    with pytest.raises(UserError, match="risky=.*: give class numbers, such as 0,3, or all"):
        override_config(METHODS["CRA"], config, {}, [("risky", text)])
    with pytest.raises(UserError, match=r"risky=-1: it is out of range: give 0 to 1e\+06"):
        override_config(METHODS["CRA"], config, {}, [("risky", "-1")])


def test_classes_in_a_model_id():
    model_id = unlearned_model_id("base", "3", "CRA", 5, 0.01, others=[("risky", (0, 3))])
    assert model_id == "base_FORGOTTEN_3_CRA_unlearnEpochs5_unlearnlr01_risky-0x3"
    assert parse_unlearned_model_id(model_id)["others"] == {"risky": "0x3"}


def test_by_the_command_line(done, trained, data_files):
    options = ("--class_to_forget", "3", "--unlearn", "CRA", "--unlearn_epochs", "1")
    printed = done(
        *("main_unlearn", *model_flags(data_files["grey"]), *options, "--unlearn_options"),
        "risky=3,0",
    )
    assert "risky 0,3" in printed
    model_id = printed.split()[-1]
    assert model_id.startswith(BASE) and model_id.endswith("_risky-0x3")
    assert load_model(model_id)[1]["settings"]["options"] == {"risky": (0, 3)}
