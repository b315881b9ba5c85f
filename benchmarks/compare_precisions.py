"""Compare the test accuracy of training in float32, in bf16, and in perturbed float32.

    python benchmarks/compare_precisions.py --dataset mednist.npz --seeds 1 2 3

The third is the reference: its initial weights differ from those of the first by a millionth, as
rounding might make them, and training amplifies any difference. Two precisions agree if they differ
by no more than that.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from models.architectures import build_model, make_spec
from utils.data.loading import load_dataset
from utils.runtime.devices import describe, pick_device
from utils.text import format_table
from utils.train.metrics import accuracy
from utils.train.prediction import predict
from utils.train.recipe import BF16, FLOAT32, Recipe
from utils.train.training import TrainingRun

PERTURBATION = 1e-6  # of a weight, relative
RUNS = {
    "float32": (FLOAT32, 0.0),
    "bf16": (BF16, 0.0),
    "float32, perturbed": (FLOAT32, PERTURBATION),
}


def main() -> None:
    """Print the table of accuracies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="SynthBloodMNIST")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--stem")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    device = pick_device(threads=args.threads)
    dataset = load_dataset(args.dataset).to(device)
    print(f"{dataset.name}, {args.arch}, {args.epochs} epochs; {describe(device)}")
    accuracies = {name: [] for name in RUNS}
    for seed in args.seeds:
        for name, (precision, change) in RUNS.items():
            model = _trained(dataset, args, seed, precision, change)
            accuracies[name].append(
                100 * accuracy(predict(model, dataset.test), dataset.test.labels)
            )
    base = accuracies["float32"]
    rows = []
    for name, percents in accuracies.items():
        differences = [one - other for one, other in zip(percents, base, strict=True)]
        each = ", ".join(f"{percent:.2f}%" for percent in percents)
        mean = statistics.mean(percents)
        distance = statistics.mean(map(abs, differences))
        rows.append(
            [name, each, f"{mean:.2f}%", f"{statistics.mean(differences):+.2f}", f"{distance:.2f}"]
        )
    headers = [
        "training in",
        "test accuracy by seed",
        "mean",
        "mean difference",
        "mean |difference|",
    ]
    print(format_table(headers, rows))


def _trained(dataset, args, seed, precision, change):
    spec = make_spec(
        args.arch, dataset.num_classes, dataset.channels, dataset.input_size, stem=args.stem
    )
    model = build_model(spec, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            weights *= 1 + change * torch.randn(weights.shape, generator=generator)
    model.to(dataset.train.device)
    recipe = Recipe(args.epochs, 0.01, 50, seed=seed, precision=precision)
    TrainingRun(model, dataset.train, dataset.val, recipe).run(show=False)
    return model


if __name__ == "__main__":
    main()
