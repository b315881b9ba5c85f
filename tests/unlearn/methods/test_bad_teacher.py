"""BadTeacher distils an untrained teacher on the forget set, and the original model elsewhere."""

import copy
from dataclasses import replace

import pytest
import torch
from torchvision.models import ConvNeXt, ResNet, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock

from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model
from unlearn.engine.config import UnlearnConfig
from unlearn.methods import bad_teacher
from unlearn.methods.bad_teacher import make_incompetent
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.train.prediction import predict
from utils.train.recipe import Recipe

METHOD = METHODS["BadTeacher"]
REQUEST = ForgetRequest((1,))
OPTIONS = {"share": 0.5, "temperature": 2.0}


def config_of(**changes):
    recipe = Recipe(1, 0.1, 1000, weight_decay=0.0, seed=4)
    return UnlearnConfig(REQUEST, replace(recipe, **changes), OPTIONS, show=False)


def test_one_step_is_the_gradient_of_both_divergences():
    forget_set, retain_set = split_set(REQUEST, tiny_set(40))
    model, config = trained_model(), config_of()
    base, student = copy.deepcopy(model), copy.deepcopy(model).train()
    METHOD.run(model, forget_set, retain_set, config)

    drawn = torch.randperm(30, generator=torch.Generator().manual_seed(4))[:15]
    parts = [(make_incompetent(base, 4), forget_set), (base, retain_set.subset(drawn))]
    targets = torch.cat([(predict(*part) / 2).softmax(1) for part in parts]).clone()
    images = torch.cat([part.batch(slice(None))[0] for _, part in parts])
    assert len(images) == 25
    log_student = (student(images) / 2).log_softmax(1)
    (targets * (targets.log() - log_student)).sum(1).mean().backward()
    for name, before in base.named_parameters():
        step = 1.9 * 0.1 * student.get_parameter(name).grad  # Nesterov's momentum, first step
        after = model.get_parameter(name)
        torch.testing.assert_close(after, before - step, rtol=1e-4, atol=1e-6)


NETWORKS = {  # small ones with parameters of all kinds
    "resnet": lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4),
    "vit": lambda: VisionTransformer(8, 4, 1, 2, 8, 8, num_classes=4),
    "convnext": lambda: ConvNeXt([CNBlockConfig(8, None, 2)], 0.1, num_classes=4),
    "swin": lambda: SwinTransformer([2, 2], 8, [2], [2], [2, 2], num_classes=4),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_incompetent_teacher_shares_no_weight_with_the_model(network):
    model = NETWORKS[network]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    fresh = make_incompetent(model, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any((parameter == 7).any() for parameter in fresh.parameters())
    assert same_weights(model, before)
    assert same_weights(fresh, make_incompetent(model, seed=3))
    assert not same_weights(fresh, make_incompetent(model, seed=4))


def test_the_incompetent_teacher_forgets_the_running_statistics():
    fresh = make_incompetent(trained_model(), seed=3)
    assert (fresh.network[1].running_mean == 0).all() and (fresh.network[1].running_var == 1).all()


def test_multi_label_other_findings_keep_the_competent_teacher(monkeypatch):
    forget_set, retain_set = split_set(REQUEST, tiny_set(40, multi_label=True))
    model, seen = trained_model(multi_label=True), []

    def look(logits, targets, multi_label):
        seen.append(targets)
        return logits.sum()

    monkeypatch.setattr(bad_teacher, "distillation_loss", look)
    base = copy.deepcopy(model)
    forget_only = replace(config_of(), options={"share": 0.0, "temperature": 1.0})
    METHOD.run(model, forget_set, retain_set, forget_only)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(4))
    assert len(seen) == 1 and len(seen[0]) == len(forget_set) < len(order)
    rows = sorted(map(tuple, seen[0][:, [0, 2, 3]].tolist()))
    theirs = predict(base, forget_set).sigmoid()
    assert rows == sorted(map(tuple, theirs[:, [0, 2, 3]].tolist()))
    ignorant = predict(make_incompetent(base, 4), forget_set).sigmoid()
    torch.testing.assert_close(seen[0][:, 1].sort()[0], ignorant[:, 1].sort()[0])


def test_it_forgets_and_keeps():
    forget_set, retain_set = split_set(REQUEST, tiny_set(120))
    model = trained_model()
    config = replace(config_of(epochs=15, lr=0.1, batch_size=20), options=OPTIONS | {"share": 1.0})
    METHOD.run(model, forget_set, retain_set, config)
    right = [
        (predict(model, part).argmax(1) == part.labels).float().mean()
        for part in (forget_set, retain_set)
    ]
    assert right[0] < 0.5 and right[1] > 0.9
