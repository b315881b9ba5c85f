"""Compare accuracy and time of ResNet stems, for the default in models/architectures.py.

python benchmarks/compare_stems.py --dataset SynthBloodMNIST my_hospital.npz --seeds 1 2 3
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.architectures import STEMS, build_model, make_spec
from utils.data.loading import load_dataset
from utils.runtime.devices import describe, pick_device
from utils.text import format_table
from utils.train.metrics import accuracy
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun


def main() -> None:
    """Print the table of accuracies and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", nargs="+", default=["SynthBloodMNIST"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--stems", nargs="+", choices=STEMS, default=list(STEMS))
    args = parser.parse_args()
    device = pick_device()
    print(f"{describe(device)}, {args.epochs} epochs, batch 50, sgd at 0.01; last epoch's accuracy")
    rows = []
    for name in args.dataset:
        dataset = load_dataset(name).to(device)
        for seed in args.seeds:
            runs = {stem: _train(dataset, stem, args.epochs, seed) for stem in args.stems}
            fastest = min(run.seconds for run in runs.values())
            for stem, run in runs.items():
                accuracies = [
                    accuracy(predict(run.model, part), part.labels)
                    for part in (run.val_set, dataset.test)
                ]
                percents = [f"{100 * value:.2f}%" for value in accuracies]
                ratio = f"{run.seconds / fastest:.2f}"
                rows.append([dataset.name, seed, stem, *percents, f"{run.seconds:.0f}", ratio])
    print(format_table(["data", "seed", "stem", "val", "test", "seconds", "time ratio"], rows))


def _train(dataset, stem, epochs, seed):
    spec = make_spec(
        "resnet18", dataset.num_classes, dataset.channels, dataset.input_size, stem=stem
    )
    model = build_model(spec, seed=seed).to(dataset.train.device)
    run = TrainingRun(model, dataset.train, dataset.val, Recipe(epochs, 0.01, 50, seed=seed))
    run.run(show=False)
    return run


if __name__ == "__main__":
    main()
