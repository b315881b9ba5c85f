"""Time each stage of the toolkit against a plain loop that computes the same, in one run.

    python benchmarks/bench.py                         28 px, some minutes on a laptop
    python benchmarks/bench.py --input_size 224 --images 12000 --batch_size 256 --rounds 1 --compile
    python benchmarks/bench.py --batch_size 256 --walkthrough        224 px, 50 epochs: on a GPU

The plain loop (plain.py) is a DataLoader with PIL transforms in batches of 50 in float32, `.item()`
at each step, evaluation image by image, and two argsorts for each threshold of a mask. The two are
timed alternately; a ratio is the median over the rounds. The lower bound is the time that the
operations of the network take at the rate of a large matrix product in the same precision, or the
bytes at the rate of a copy.
"""

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import numpy as np
import plain
import torch
from method_times import methods_table
from stages import Workload
from timing import compare, measure
from torch.nn import functional

from utils.data.loading import SYNTHETIC, load_dataset
from utils.data.npz import SPLITS
from utils.data.placement import Placement, format_size
from utils.runtime.devices import describe, pick_device
from utils.text import format_table
from utils.train.precision import AUTO, pick_precision
from utils.train.prediction import predict
from utils.train.recipe import BF16, FLOAT32, PRECISIONS

BLOOD = {"train": 11_959, "val": 1_712, "test": 3_421}  # images of BloodMNIST
BLOOD_SIZE, BLOOD_EPOCHS = 224, 50
QUICK = {"images": 64, "rounds": 1, "arch": "shufflenet_v2_x0_5", "epochs": 1}
BASE_EPOCHS = 2  # of the model that methods unlearn from
MODES = ("default", "reduce-overhead")  # of torch.compile; the latter uses CUDA graphs


def main() -> None:
    """Print the tables of stages and methods, or the time of the walkthrough."""
    args = _arguments()
    if args.walkthrough:
        print(_walkthrough(args))
        return
    device = pick_device(args.device, args.threads)
    precision = pick_precision(args.precision, device)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path = _data_file(args, folder)
        work = Workload(path, folder, args, device, precision)
        print(
            f"{args.dataset}, {work.size} px, {len(work.train):,} training and "
            f"{len(work.test):,} test images; {args.arch}; ours {precision}, batches of "
            f"{args.batch_size}; plain float32, batches of {plain.BATCH_SIZE}; {describe(device)}"
        )
        rows = [_row(stage, args.rounds, device) for stage in work.stages()]
        headers = [
            "stage",
            "ours",
            "plain",
            "ratio",
            "images/s",
            "peak memory",
            "lower bound / ours",
        ]
        print(format_table(headers, rows), flush=True)
        base_epochs = min(args.epochs, BASE_EPOCHS)
        methods = methods_table(work, args.rounds, base_epochs, args.quick)
        print(f"\n{methods}\n\n{_agreement(work)}", flush=True)
        if args.quick:
            print("quick: this run only checks that the benchmark works; its times mean nothing")
        if args.compile:
            print(f"\n{_break_even(work)}", flush=True)


def _row(stage, rounds, device):
    pair = compare(stage.ours, stage.plain, rounds, device, once=stage.once)
    return [
        stage.name,
        f"{pair.ours:.3f} s",
        f"{pair.plain:.3f} s",
        f"{pair.ratio:.1f}",
        f"{stage.images / pair.ours:,.0f}",
        format_size(pair.peak),
        f"{stage.lower_bound / pair.ours:.0%}",
    ]


def _agreement(work):
    """Return the test accuracy of the same training in both precisions."""
    accuracies = {}
    for precision in (FLOAT32, BF16):
        recipe = replace(work.recipe, precision=precision)
        model = work.train_for(work.recipe.epochs, recipe)
        correct = predict(model, work.test).argmax(1) == work.test.labels
        accuracies[precision] = 100 * correct.float().mean().item()
    return (
        f"test accuracy, epochs {work.recipe.epochs}: float32 {accuracies[FLOAT32]:.2f}%, "
        f"bf16 {accuracies[BF16]:.2f}%"
    )


def _break_even(work):
    """Return the compilation time of torch.compile, and the epoch from which it saves time."""
    one, three = (
        measure(lambda n=n: work.train_for(n, work.recipe), work.device)[0] for n in (1, 3)
    )
    eager = (three - one) / 2  # without the start of a run
    return "\n".join(
        _compiled(work, eager, mode) for mode in MODES[: 2 if work.device.type == "cuda" else 1]
    )


def _compiled(work, eager, mode):
    model = copy.deepcopy(work.model)

    def prepare():
        model.compile_for(min(work.recipe.batch_size, len(work.train)))
        if mode != MODES[0]:
            model.network.compile(dynamic=False, mode=mode)

    with tempfile.TemporaryDirectory() as empty_cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty_cache
        first = measure(prepare, work.device)[0]
        first += measure(lambda: work.train_for(1, work.recipe, model), work.device)[0]
        later = measure(lambda: work.train_for(1, work.recipe, model), work.device)[0]
    saved = eager - later
    even = (
        f"saves time from epoch {1 + int((first - later) / saved)} on"
        if saved > 0
        else "saves no time"
    )
    return (
        f"torch.compile, {mode}: {first - later:.1f} s, then {eager / later:.2f} times as fast: "
        f"{even}"
    )


def _walkthrough(args):
    """Return the time of the walkthrough on random images of BloodMNIST's shape."""
    sizes = (
        {split: max(16, count // 100) for split, count in BLOOD.items()} if args.quick else BLOOD
    )
    side, epochs = (28, 1) if args.quick else (BLOOD_SIZE, BLOOD_EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blood.npz"
        rng = np.random.default_rng(0)
        arrays = {}
        for split, count in sizes.items():
            shape = (count, side, side, 3)
            arrays[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
            arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 8)[:, None]
        np.savez(path, **arrays)
        command = [sys.executable, ROOT / "main_walkthrough.py", "--dataset", path]
        command += ["--epochs", epochs, "--arch", args.arch, "--batch_size", args.batch_size]
        command += ["--unlearn", "RL_with_SalUn", "--device", args.device]
        command += ["--precision", args.precision, *(["--compile"] if args.compile else [])]
        command += ["--threads", args.threads] if args.threads else []
        began = time.perf_counter()
        subprocess.run(list(map(str, command)), cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    shape = " / ".join(f"{count:,}" for count in sizes.values())
    title = "walkthrough, compiled" if args.compile else "walkthrough"
    return f"{title}, {shape} images of {side} px, {epochs} epochs: {seconds:.0f} s"


def _data_file(args, folder):
    """Write the data set as a .npz file with `--images` training images, repeated if it has fewer.

    The other splits have at most as many. Images are resized to `--input_size`, because drawing
    SynthBloodMNIST at a large size takes longer than the benchmark.
    """
    dataset = load_dataset(args.dataset, placement=Placement(workers=0))
    size = args.input_size or dataset.input_size
    arrays = {}
    for split in SPLITS:
        part = dataset.splits[split]
        count = args.images if split == "train" else min(args.images, len(part))
        chosen = torch.arange(count) % len(part)
        images = functional.interpolate(part.images[chosen].contiguous(), size)
        images = images.permute(0, 2, 3, 1).squeeze(3).numpy()
        arrays[f"{split}_images"] = np.ascontiguousarray(images)
        arrays[f"{split}_labels"] = part.labels[chosen].numpy()[:, None]
    np.savez_compressed(folder / "data.npz", **arrays)
    return folder / "data.npz"


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default=SYNTHETIC, help="single-label")
    parser.add_argument("--input_size", type=int)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument(
        "--images",
        type=int,
        default=1000,
        help="training images, and the maximum of the other splits",
    )
    parser.add_argument("--batch_size", type=int, default=plain.BATCH_SIZE, help="of the toolkit")
    parser.add_argument("--epochs", type=int, default=20, help="of the base model and Retrain")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=PRECISIONS, default=AUTO, help="of the toolkit")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument(
        "--walkthrough",
        action="store_true",
        help="time only the walkthrough, on BloodMNIST's shape",
    )
    parser.add_argument("--quick", action="store_true", help="only check that the benchmark works")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    return args


if __name__ == "__main__":
    main()
