"""FT is plain training on the retain set."""

import torch

from tests.helpers.methods import (
    CONFIG,
    REQUEST,
    with_recipe,
)
from tests.helpers.tiny import (
    split_set,
    tiny_model,
    tiny_set,
)
from unlearn.registry import METHODS
from utils.train.losses import classification_loss


def test_fine_tuning_is_plain_training_on_the_retain_set():
    forget_set, retain_set = split_set(REQUEST, tiny_set())
    config = with_recipe(CONFIG, epochs=1)
    tuned = METHODS["FT"].run(tiny_model(), forget_set, retain_set, config)
    plain = tiny_model().train()
    optimizer = torch.optim.SGD(
        plain.parameters(),
        0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=config.recipe.weight_decay,
    )
    order = torch.randperm(
        len(retain_set), generator=torch.Generator().manual_seed(config.recipe.seed)
    )
    for part in order.split(7):
        images, labels = retain_set.batch(part)
        optimizer.zero_grad()
        classification_loss(plain(images), labels).backward()
        optimizer.step()
    for ours, theirs in zip(tuned.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
