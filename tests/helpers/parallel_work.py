"""Computations that test_parallel.py compares between one process and two.

Run as a script by two processes, each writes its results to {folder}/{rank}.pt. Then rank 1 fails
while rank 0 waits for it.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from models.architectures import Classifier, build_model, make_spec
from models.ensemble import Ensemble
from models.features import predict_with_features
from models.shards import ShardedRun
from tests.helpers.tiny import SIZE, split_set, tiny_model, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_mask, gradient_saliency
from utils.io.files import write_atomically
from utils.runtime import processes
from utils.runtime.errors import UserError, run_script
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

REQUEST = ForgetRequest((1,))
SETS = split_set(REQUEST, tiny_set(26))
TRAIN_FROM_SCRATCH = ("Retrain", "EU_k", "SISA")  # a real network; `training` covers a tiny one
SMALL_OPTIONS = {"AMUN": {"steps": 4}, "UNSIR": {"steps": 4, "noise": 5}}
RECIPE = Recipe(2, 0.05, 7)


def trained(run):
    run.run(show=False)
    return {**weights_of(run.model), "loss": torch.tensor(run.history[-1]["train_loss"])}


def train_sharded():
    network = Ensemble([tiny_model(seed=seed).network for seed in (0, 1)], multi_label=False)
    model = Classifier(network, replace(tiny_model().spec, shards=2))
    return trained(ShardedRun(model, tiny_set(31), tiny_set(7, seed=1), RECIPE))


def training_run(count=25, batch_size=7, dropout=0.0):
    recipe = replace(RECIPE, batch_size=batch_size)
    return TrainingRun(tiny_model(dropout=dropout), tiny_set(count), tiny_set(7, seed=1), recipe)


def unlearned(method):
    model, recipe = trained_model(), Recipe(1, 0.01, 7)
    if method.one_step:
        recipe = replace(method.recipe, batch_size=3)
    options = {name: option.default for name, option in method.options.items()}
    options |= SMALL_OPTIONS.get(method.id.removesuffix("_with_SalUn"), {})
    config = UnlearnConfig(REQUEST, recipe, options, show=False)
    if method.uses_mask:
        config = replace(config, mask=compute_mask(model, SETS[0], REQUEST, 0.5))
    return weights_of(method.run(model, *SETS, config))


def predicted(count):
    logits, features = predict_with_features(trained_model(), tiny_set(count))
    return {"logits": logits, "features": features}


def gradients_of_step(model, images):
    """Return gradients of weights and pixels, in training mode, of a loss with a weight term."""
    pixels = tiny_set(images).images.to(next(model.parameters()).dtype).requires_grad_()
    loss = model.train()(pixels).logsumexp(1).square().sum()
    loss = loss + sum(weight.abs().sum() for weight in model.parameters())
    loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return {**gradients, **dict(model.named_buffers()), "pixels": pixels.grad}


def float64_gradients():
    model = build_model(make_spec("resnet18", 4, 1, SIZE), seed=1).double()
    return {
        name: part[:4].clone() for name, part in gradients_of_step(model, 5).items() if part.ndim
    }


WORK = {
    "training": lambda: trained(training_run()),
    "training, a last batch of one": lambda: trained(training_run(8)),
    "training, batches of two": lambda: trained(training_run(8, 2)),
    "training in shards": train_sharded,
    "saliency": lambda: gradient_saliency(trained_model(), SETS[0], REQUEST, 5),
    "prediction of 1": lambda: predicted(1),
    "prediction of 7": lambda: predicted(7),
    "step of 2": lambda: gradients_of_step(tiny_model(), 2),
    "step of 7": lambda: gradients_of_step(tiny_model(), 7),
    "step of a residual network": float64_gradients,
    **{
        method.id: lambda method=method: unlearned(method)
        for method in METHODS.values()
        if method.id.removesuffix("_with_SalUn") not in TRAIN_FROM_SCRATCH
    },
}


def with_dropout():
    """Return weights, and the random state that all ranks have in common."""
    run = training_run(dropout=0.5)
    return {**trained(run), "random state": run.state()["layer_randomness"]["cpu"]}


def part_and_dropout():
    """Return this rank's number of images and dropout mask, for batches of 7 and of 1.

    All images are the same, so that masks differ only by their random numbers.
    """
    model, seen = tiny_model(dropout=0.5).train(), []
    model.network[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    model.network[5].register_forward_hook(lambda _, inputs, left: seen.append(left != 0))
    for count in (7, 1):
        model.eval() if count == 1 else model.train()
        torch.manual_seed(0)
        model(tiny_set(1).images.expand(count, -1, -1, -1))
    return seen


def world_size_of_rank_zero(folder):
    """Return the world size within a function that only rank 0 runs."""

    @processes.rank_zero_only
    def write():
        write_atomically(folder / "alone", str(processes.world_size()).encode())

    write()
    return (folder / "alone").read_text()


def local_order(folder):
    """Return the lines that functions run by local_rank_zero_first have written so far."""

    @processes.local_rank_zero_first
    def append_line():
        with open(folder / "turns", "a") as turns:
            turns.write(f"{processes.rank()} of {processes.world_size()}\n")
        return (folder / "turns").read_text()

    return append_line()


def write_error(path):
    """Return why a file cannot be written, None if it is written."""
    try:
        write_atomically(path, str(processes.rank()).encode())
    except UserError as error:
        return str(error)
    return None


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    results = {name: work() for name, work in WORK.items()}
    own = {
        "view": part_and_dropout(),
        "turns": local_order(folder),
        "alone": world_size_of_rank_zero(folder),
        "refusals": [write_error(folder / "written"), write_error(folder / "written" / "below")],
        "agree": [
            processes.all_ranks_equal("the same"),
            processes.all_ranks_equal(processes.rank()),
        ],
    }
    content = {"results": results, "dropout": with_dropout(), "own": own}
    torch.save(content, folder / f"{processes.rank()}.pt")
    print("done")
    if processes.rank() == 1:
        raise UserError("rank 1 failed")
    predict(trained_model(), tiny_set(2))


if __name__ == "__main__":
    run_script(main)
