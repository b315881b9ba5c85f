"""SCRUB moves away from its teacher on the forget set and follows it on the retain set."""

import copy
from dataclasses import replace

import torch
from torch import nn

from models.architectures import Classifier, ModelSpec
from tests.helpers.methods import REQUEST, by_task, scrub_config
from tests.helpers.tiny import SIZE, same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.registry import METHODS

METHOD = METHODS["SCRUB"]


def plain_model():
    """Without batch normalisation, so that training mode changes no output."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 4))
    return Classifier(network, ModelSpec("tiny", 4, 1, SIZE))


@by_task
def test_without_forget_passes_and_labels_the_student_stays_at_its_teacher(multi_label):
    model = plain_model()
    before = weights_of(model)
    sets = split_set(REQUEST, tiny_set(40, multi_label=multi_label))
    METHOD.run(model, *sets, scrub_config(0, 5.0, 0.0))
    for name, after in model.state_dict().items():
        torch.testing.assert_close(after, before[name], rtol=0, atol=1e-5)
    labelled = METHOD.run(plain_model(), *sets, scrub_config(0, 5.0, 1.0))
    assert (labelled.network[1].weight - before["network.1.weight"]).abs().max() > 1e-3


@by_task
def test_without_teacher_it_is_training_on_the_retain_set(multi_label):
    sets = split_set(REQUEST, tiny_set(40, multi_label=multi_label))
    ours = METHOD.run(plain_model(), *sets, scrub_config(0, 0.0, 1.0, epochs=1))
    theirs = METHODS["FT"].run(plain_model(), *sets, scrub_config(0, 0.0, 1.0, epochs=1))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_the_two_passes_follow_both_gradients():
    """SGD with momentum by hand: ascent on the divergence, then descent on the two losses."""
    forget_set, retain_set = split_set(REQUEST, tiny_set(40))
    model = trained_model()
    teacher, student = copy.deepcopy(model).eval(), copy.deepcopy(model).train()
    METHOD.run(model, forget_set, retain_set, scrub_config(1, 0.5, 2.0, epochs=1))
    optimizer = torch.optim.SGD(student.parameters(), 0.1, momentum=0.9, nesterov=True)
    for part, sign in ((forget_set, -1), (retain_set, 1)):
        images, labels = part.batch(slice(None))
        target = teacher(images).detach().softmax(1)
        log_student = student(images).log_softmax(1)
        loss = sign * (target * (target.log() - log_student)).sum(1).mean()
        if sign == 1:
            loss = 0.5 * loss - 2.0 * log_student.gather(1, labels[:, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, theirs in student.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], theirs, rtol=1e-4, atol=1e-5)


def test_multi_label_forget_passes_leave_the_other_findings():
    """The output layer's other rows have no gradient from a forget pass."""
    forget_set, retain_set = split_set(REQUEST, tiny_set(40, multi_label=True))
    model = trained_model(multi_label=True)
    before = weights_of(model)["network.6.weight"]
    METHOD.run(model, forget_set, retain_set, scrub_config(1, 0.0, 0.0, epochs=1))
    moved = (model.network[6].weight != before).any(1)
    assert moved.tolist() == [False, True, False, False]


def test_without_unseen_images_it_is_scrub_r():
    sets = split_set(REQUEST, tiny_set(40))
    config = scrub_config(2, 0.5, 1.0)
    ours = METHOD.run(trained_model(), *sets, config)
    rewound = METHODS["SCRUB_R"].run(trained_model(), *sets, config)
    assert same_weights(ours.state_dict(), rewound.state_dict())


def test_unseen_images_change_nothing():
    """Unlike SCRUB_R, it always ends with the last epoch."""
    sets = split_set(REQUEST, tiny_set(40))
    config = scrub_config(3, 0.0, 0.0)
    ours = METHOD.run(trained_model(), *sets, config)
    unseen = replace(config, matching_val=sets[0].subset(slice(0, 6)))
    assert same_weights(METHOD.run(trained_model(), *sets, unseen).state_dict(), ours.state_dict())
