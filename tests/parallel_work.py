"""Work that is to come to the same in one process and in several: run by test_parallel.py.

As a script: every process writes what it has come to to {folder}/{number}.pt.
"""

import sys
from dataclasses import replace

import torch

from models.architectures import build_model, make_spec
from models.features import predict_with_features
from tiny import SIZE, split_set, tiny_model, tiny_set, trained_model, weights_of
from unlearn.config import UnlearnConfig
from unlearn.methods import METHODS
from unlearn.request import ForgetRequest
from unlearn.saliency import entry_percents, gradient_saliency, make_mask, mask_at
from utils import processes
from utils.errors import run_script
from utils.prediction import predict
from utils.training import Recipe, TrainingRun

REQUEST = ForgetRequest((1,))
SETS = split_set(REQUEST, tiny_set(26))
PARTED = [method.id for method in METHODS.values() if method.id != "SISA"]


def trained(network_seed=0, count=25, batch_size=7):
    """The last batch has four images, or one that joins those before it."""
    model = tiny_model(seed=network_seed)
    run = TrainingRun(model, tiny_set(count), tiny_set(7, seed=1), Recipe(3, 0.05, batch_size))
    run.run(show=False)
    return {**weights_of(model), "loss": torch.tensor(run.history[-1]["train_loss"])}


def unlearned(method, epochs=1):
    model, recipe = trained_model(), Recipe(epochs, 0.01, 7)
    if method.id in ("Retrain", "EU_k"):  # they build a network of their own
        model = build_model(make_spec("shufflenet_v2_x0_5", 4, 1, SIZE), seed=3)
    if method.one_step:
        recipe = replace(method.recipe, batch_size=3)
    unseen = split_set(REQUEST, tiny_set(12, seed=1))
    config = UnlearnConfig(
        REQUEST,
        recipe,
        {name: option.default for name, option in method.options.items()},
        comparable_val=unseen[0],
        retain_val=unseen[1],
        show=False,
    )
    if method.uses_mask:
        config = replace(config, mask=make_mask(model, SETS[0], REQUEST, 0.5))
    return weights_of(method.run(model, *SETS, config))


def predicted(count):
    logits, features = predict_with_features(trained_model(), tiny_set(count))
    return {"logits": logits, "features": features, "again": predict(trained_model(), tiny_set(count))}


def a_step(images):
    """Gradients of weights and pixels of a batch, in training mode, with a term of the weights."""
    model = tiny_model().train()
    pixels = tiny_set(images).images.float().requires_grad_()
    loss = model(pixels).logsumexp(1).square().sum()
    loss = loss + sum(weight.abs().sum() for weight in model.parameters())
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    return {**found, **dict(model.named_buffers()), "pixels": pixels.grad}


def with_dropout():
    """Weights after two epochs, and what the common random state gives afterwards."""
    model = tiny_model(dropout=0.5)
    run = TrainingRun(model, tiny_set(25), tiny_set(7, seed=1), Recipe(2, 0.05, 7))
    run.run(show=False)
    return {**weights_of(model), "random state": run.state()["layer_randomness"]["cpu"]}


def everything():
    """Name -> tensors by name."""
    return {
        "training": trained(),
        "training, batches of 2": trained(count=8, batch_size=2),
        "saliency": gradient_saliency(trained_model(), SETS[0], REQUEST, 5),
        **{f"predict {count}": predicted(count) for count in (1, 7)},
        **{f"step of {images}": a_step(images) for images in (2, 7)},
        **{name: unlearned(METHODS[name]) for name in PARTED},
        "dropout": with_dropout(),
    }


def main():
    torch.set_num_threads(1)
    torch.save(everything(), f"{sys.argv[1]}/{processes.number()}.pt")


if __name__ == "__main__":
    run_script(main)
