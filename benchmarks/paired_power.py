"""Measure how often the paired test finds memory, by the number of images and of Retrains.

    python benchmarks/paired_power.py --model_id base_best --dataset SynthBloodMNIST --threads 1

A random fraction of the training images is forgotten by --retrains Retrains, which are kept in
model_weights/ and used again. Then the images of many small requests are drawn from it, each with
some of the Retrains. Found in the base model is memory; found in another Retrain is a false alarm.
--models names further models of the same request.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import main_unlearn
from evaluation.metrics.klom import margins
from evaluation.metrics.membership import attack
from evaluation.retrains.paired import paired_test
from models.checkpoint import load_model
from models.loading import load_model_and_data
from unlearn.request.request import ForgetRequest
from utils.runtime.devices import describe, pick_device
from utils.text import format_table
from utils.train.prediction import predict


def main() -> None:
    """Print the table of the percentages of requests in which memory is found."""
    args = _arguments()
    device = pick_device("auto", args.threads)
    names = [_retrain(args, seed) for seed in range(1, args.retrains + 1)]
    base, _, dataset = load_model_and_data(args.model_id, args.dataset, device)
    request = ForgetRequest.from_fraction(args.forget_fraction, 1, None, dataset)
    parts = (
        request.split(dataset, "train")[0],
        dataset.val.subset(request.matches_forget_set(dataset, "val")),
    )
    kinds = np.concatenate([part.labels.cpu().numpy() for part in parts])
    models = {args.model_id: _margins(base, parts, request)}
    for name in (*args.models, *names):
        models[name] = _margins(load_model(name, device)[0], parts, request)
    retrains = np.array([models.pop(name) for name in names])
    count = len(parts[0])
    print(
        f"\n{args.model_id} on {dataset.name}, {request.description}: {count} images, "
        f"{len(names)} Retrains, {args.draws} draws, seed {args.seed}, {describe(device)}\n"
        "found at 5%, two-sided: still known / conspicuously unknown\n"
    )
    heads = [*models, "another Retrain", f"{args.model_id}, attack by loss"]
    rows = []
    for images in args.images:
        by_attack = _found_by_attack(models[args.model_id], count, images, args)
        for number in args.counts:
            found = _found(models, retrains, kinds, count, images, number, args)
            rows.append([images, number, *found, by_attack])
    print(format_table(["images", "Retrains", *heads], rows))


def _retrain(args, seed):
    """The id of the Retrain of a seed, which is created if it does not exist."""
    flags = ["--unlearn", "Retrain", "--seed", str(seed), "--resume"]
    flags += ["--model_id", args.model_id, "--dataset", args.dataset]
    flags += ["--forget_fraction", f"{args.forget_fraction:g}"]
    return main_unlearn.main(flags + (["--threads", str(args.threads)] if args.threads else []))


def _margins(model, parts, request):
    """(N,) margins of the forgotten and the unseen images."""
    found = [
        margins(*request.scored_logits(predict(model, part).cpu(), part.labels.cpu()))
        for part in parts
    ]
    return np.concatenate(found)


def _found(models, retrains, kinds, count, images, number, args):
    """Percentages of the draws in which each model, and another Retrain, is distinguished."""
    rng = np.random.default_rng(args.seed)
    found = np.zeros((len(models) + 1, 2))
    for _ in range(args.draws):
        columns = np.r_[rng.choice(count, images, replace=False), count : len(kinds)]
        left_out, *others = rng.permutation(len(retrains))[: number + 1]
        forgotten = np.arange(len(columns)) < images
        for row, each in enumerate((*models.values(), retrains[left_out])):
            references = retrains[np.ix_(others, columns)]
            test = paired_test(each[columns], references, forgotten, kinds[columns])
            found[row, int(test.difference < 0)] += test.is_found
    return [" / ".join(_percent(n, args.draws) for n in row) for row in found]


def _found_by_attack(base, count, images, args):
    """Percentage of the draws in which an attack by loss finds the base model's memory."""
    rng = np.random.default_rng(args.seed)
    found = 0
    for _ in range(args.draws):
        auc = attack(base[rng.choice(count, images, replace=False)], base[count:]).auc
        found += auc.low > 0.5
    return _percent(found, args.draws)


def _percent(count, total):
    return f"{100 * count / total:.0f}%"


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model_id", required=True)
    parser.add_argument("--dataset", default="SynthBloodMNIST")
    parser.add_argument("--forget_fraction", type=float, default=0.1)
    parser.add_argument("--retrains", type=int, default=10)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--images", type=int, nargs="+", default=[5, 12, 40])
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 3, 5, 8])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
