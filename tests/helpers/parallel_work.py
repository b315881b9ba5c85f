"""What test_parallel.py has done by one process and by two, which are to come to the same.

As a script, in two processes: each writes what it has come to to {folder}/{number}.pt; then the
second one fails while the first waits for it.
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
TRAIN_FROM_SCRATCH = ("Retrain", "EU_k", "SISA")  # a real network, as `training` trains a tiny one
FEWER = {"AMUN": {"steps": 4}, "UNSIR": {"steps": 4, "noise": 5}}
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
    options |= FEWER.get(method.id.removesuffix("_with_SalUn"), {})
    config = UnlearnConfig(REQUEST, recipe, options, show=False)
    if method.uses_mask:
        config = replace(config, mask=compute_mask(model, SETS[0], REQUEST, 0.5))
    return weights_of(method.run(model, *SETS, config))


def predicted(count):
    logits, features = predict_with_features(trained_model(), tiny_set(count))
    return {"logits": logits, "features": features}


def a_step(model, images):
    """Gradients of weights and pixels of a batch, in training mode, with a term of the weights."""
    pixels = tiny_set(images).images.to(next(model.parameters()).dtype).requires_grad_()
    loss = model.train()(pixels).logsumexp(1).square().sum()
    loss = loss + sum(weight.abs().sum() for weight in model.parameters())
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    return {**found, **dict(model.named_buffers()), "pixels": pixels.grad}


def a_double_step():
    model = build_model(make_spec("resnet18", 4, 1, SIZE), seed=1).double()
    return {name: part[:4].clone() for name, part in a_step(model, 5).items() if part.ndim}


WORK = {
    "training": lambda: trained(training_run()),
    "training, a last batch of one": lambda: trained(training_run(8)),
    "training, batches of two": lambda: trained(training_run(8, 2)),
    "training in shards": train_sharded,
    "saliency": lambda: gradient_saliency(trained_model(), SETS[0], REQUEST, 5),
    "prediction of 1": lambda: predicted(1),
    "prediction of 7": lambda: predicted(7),
    "step of 2": lambda: a_step(tiny_model(), 2),
    "step of 7": lambda: a_step(tiny_model(), 7),
    "step of a residual network": a_double_step,
    **{
        method.id: lambda method=method: unlearned(method)
        for method in METHODS.values()
        if method.id.removesuffix("_with_SalUn") not in TRAIN_FROM_SCRATCH
    },
}


def with_dropout():
    """Weights, and the random state that all processes have in common."""
    run = training_run(dropout=0.5)
    return {**trained(run), "random state": run.state()["layer_randomness"]["cpu"]}


def own_view():
    """What this process's network sees of 7 images and of 1, and what its dropout leaves of them.

    The images are the same: where dropout differs, its random numbers do.
    """
    model, seen = tiny_model(dropout=0.5).train(), []
    model.network[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    model.network[5].register_forward_hook(lambda _, inputs, left: seen.append(left != 0))
    for count in (7, 1):
        model.eval() if count == 1 else model.train()
        torch.manual_seed(0)
        model(tiny_set(1).images.expand(count, -1, -1, -1))
    return seen


def alone(folder):
    """How many processes there are for work that the first alone does, which may write."""

    @processes.rank_zero_only
    def write():
        write_atomically(folder / "alone", str(processes.world_size()).encode())

    write()
    return (folder / "alone").read_text()


def in_turn(folder):
    @processes.local_rank_zero_first
    def note():
        with open(folder / "turns", "a") as turns:
            turns.write(f"{processes.rank()} of {processes.world_size()}\n")
        return (folder / "turns").read_text()

    return note()


def refusal(path):
    """Why a file cannot be written; None where it can."""
    try:
        write_atomically(path, str(processes.rank()).encode())
    except UserError as error:
        return str(error)
    return None


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    found = {name: work() for name, work in WORK.items()}
    own = {
        "view": own_view(),
        "turns": in_turn(folder),
        "alone": alone(folder),
        "refusals": [refusal(folder / "written"), refusal(folder / "written" / "below")],
        "agree": [
            processes.all_ranks_equal("the same"),
            processes.all_ranks_equal(processes.rank()),
        ],
    }
    content = {"found": found, "dropout": with_dropout(), "own": own}
    torch.save(content, folder / f"{processes.rank()}.pt")
    print("done")
    if processes.rank() == 1:
        raise UserError("the second one has had enough")
    predict(trained_model(), tiny_set(2))


if __name__ == "__main__":
    run_script(main)
