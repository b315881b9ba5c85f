"""Check the JS ratio and the paired test on many Retrains of one base model and one request.

    python benchmarks/yardsticks.py --model_id A --dataset SynthBloodMNIST --class_to_forget 3
    python benchmarks/yardsticks.py --model_id A --dataset SynthBloodMNIST --forget_fraction 0.1

The Retrains are kept in model_weights/ and used again. Each draw leaves one of them out and
compares it, and the base model, with some of the others.

First table: how often the interval of the JS ratio (without the floor) holds 1, as it should in 95%
of the draws, and the base model's ratio. Second table, for single images only: how often the paired
test distinguishes a model from Retrain on a few of the images. In the base model that is memory, in
the Retrain that was left out a false alarm. Next to it stands how often an attack by loss with
validation images finds memory (its AUC's whole interval is above 0.5). The images are drawn at
random. Those of a patient are more alike: the paired test is less powerful then, but still valid.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import main_unlearn
from arg_parser import (
    data_flags,
    device_flags,
    make_parser,
    open_model_arguments,
    read_request,
    request_arguments,
    request_flags,
    trained_model_flags,
)
from evaluation.audit import MODEL, Audit
from evaluation.measure import SETS
from evaluation.metrics.membership import attack
from evaluation.metrics.paired_memory import image_kinds, image_margins
from evaluation.metrics.ratio import FLOOR, comparable_sets
from evaluation.retrains.paired import paired_test
from evaluation.retrains.pairwise import js_divergences, mean_distances
from evaluation.retrains.relative import (
    degrees_of_freedom,
    mean_between,
    measure_distances,
    relative_distance,
)
from models.checkpoint import load_model
from models.loading import load_model_and_data
from utils.runtime.devices import describe, pick_device
from utils.text import format_table


def main() -> None:
    """Print both tables."""
    args = _arguments()
    device = pick_device(args.device, args.threads)
    base, _, dataset = load_model_and_data(device=device, **open_model_arguments(args))
    request = read_request(args, dataset)
    names = [_retrain(args, seed) for seed in range(1, args.retrains + 1)]
    contexts = [
        Audit(model, dataset, request).add(MODEL)
        for model in (base, *(load_model(name, device)[0] for name in names))
    ]
    print(
        f"\n{args.model_id} on {dataset.name}, {request.description}: {len(names)} Retrains, "
        f"{args.draws} draws, seed {args.seed}, {describe(device)}\n"
    )
    heads = ["set", "bits", "directions", "Retrains", "interval holds 1", "base model", "above 1"]
    print(format_table(heads, _ratio_rows(contexts, args)))
    if request.indices is not None:
        heads = ["images", "Retrains", "base model", "another Retrain"]
        heads += [f"attack: {name}" for name in heads[2:]]
        print("\nfound at 5%, two-sided: still known / conspicuously unknown\n")
        print(format_table(heads, _paired_rows(contexts, args)))


def _retrain(args, seed):
    """The id of the Retrain of a seed, which is created if it does not exist."""
    flags = ["--unlearn", "Retrain", "--seed", str(seed), "--resume", "--device", args.device]
    flags += ["--model_id", args.model_id, "--dataset", args.dataset, *request_arguments(args)]
    return main_unlearn.main(flags + (["--threads", str(args.threads)] if args.threads else []))


def _ratio_rows(contexts, args):
    """Rows of the first table: bits between Retrains, and what the intervals hold."""
    sets = [comparable_sets(each) for each in contexts]
    rows = []
    for name in SETS:
        outputs = [each[name].logits for each in sets]  # the base model is the first
        measurement = mean_distances(js_divergences, outputs, sets[0][name].labels.ndim == 2)
        (distances,) = measure_distances([measurement], len(outputs[0]), args.seed)
        between = distances.observed[1:, 1:]
        row = [name, f"{mean_between(between):.4f}", f"{degrees_of_freedom(between):.0f}"]
        for number in args.counts:
            rng = np.random.default_rng(args.seed)
            retrain, base = [], []
            for _ in range(args.draws):
                left_out, *others = 1 + rng.permutation(len(between))[: number + 1]
                retrain.append(relative_distance(distances, [left_out], others, 0.0))
                base.append(relative_distance(distances, [0], others, FLOOR))
            holds = _percent(np.mean([each.low <= 1 <= each.high for each in retrain]))
            above = _percent(np.mean([each.low > 1 for each in base]))
            ratio = f"{np.median([each.value for each in base]):.1f}"
            rows.append([*row, number, holds, ratio, above])
    return rows


def _paired_rows(contexts, args):
    """Rows of the second table: percentages of the draws in which a model is distinguished."""
    base, *retrains = (image_margins(each) for each in contexts)
    retrains = np.array(retrains)
    count = len(contexts[0].outputs["train"].split()[0])
    kinds = image_kinds(contexts[0])
    rows = []
    for images in args.images:
        by_attack = _found_by_attack(base, retrains, count, images, args)
        for number in args.counts:
            rng = np.random.default_rng(args.seed)
            found = np.zeros((2, 2))
            for _ in range(args.draws):
                columns = np.r_[rng.choice(count, images, replace=False), count : len(kinds)]
                left_out, *others = rng.permutation(len(retrains))[: number + 1]
                references = retrains[np.ix_(others, columns)]
                forgotten = np.arange(len(columns)) < images
                for row, each in enumerate((base, retrains[left_out])):
                    test = paired_test(each[columns], references, forgotten, kinds[columns])
                    found[row, int(test.difference < 0)] += test.is_found
            cells = [" / ".join(map(_percent, row / args.draws)) for row in found]
            rows.append([images, number, *cells, *by_attack])
    return rows


def _found_by_attack(base, retrains, count, images, args):
    """Percentages of the draws in which an attack by loss finds memory: base model, a Retrain."""
    rng = np.random.default_rng(args.seed)
    found = np.zeros(2)
    for _ in range(args.draws):
        drawn = rng.choice(count, images, replace=False)
        for row, each in enumerate((base, retrains[rng.integers(len(retrains))])):
            found[row] += attack(each[drawn], each[count:]).auc.low > 0.5
    return [_percent(number / args.draws) for number in found]


def _percent(fraction):
    return f"{100 * fraction:.0f}%"


def _arguments():
    parser = make_parser(__doc__, trained_model_flags, data_flags, device_flags)
    request_flags(parser)
    group = parser.add_argument_group("draws")
    group.add_argument("--retrains", type=int, default=10)
    group.add_argument("--images", type=int, nargs="+", default=[5, 12, 40])
    group.add_argument("--counts", type=int, nargs="+", default=[2, 3, 5, 8])
    group.add_argument("--draws", type=int, default=400)
    group.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
