"""Each stage of the toolkit beside a plain loop that does the same, in turn, in one run.

    python benchmarks/bench.py                         28 px, on a laptop some minutes
    python benchmarks/bench.py --input_size 224 --images 12000 --batch_size 256 --rounds 1 --compile
    python benchmarks/bench.py --batch_size 256 --walkthrough        224 px, 50 epochs: on a GPU

The plain loop (plain.py) is a DataLoader with PIL transforms in batches of 50 in float32, `.item()`
at each step, evaluation image by image, and two argsorts for each threshold of a mask. A ratio is
the median over the rounds. The floor is the least time that the operations of the network take at
the rate of a large matrix product in the same precision, or the bytes at the rate of a copy.
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
from stages import Work
from timing import in_turn, timed
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
BASE_EPOCHS = 2  # of the model that methods work on
MODES = ("default", "reduce-overhead")  # of torch.compile; the latter replays CUDA graphs


def main():
    args = _arguments()
    if args.walkthrough:
        print(_walkthrough(args))
        return
    device = pick_device(args.device, args.threads)
    precision = pick_precision(args.precision, device)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path = _data_file(args, folder)
        work = Work(path, folder, args, device, precision)
        print(
            f"{args.dataset}, {work.size} px, {len(work.train):,} training and "
            f"{len(work.test):,} test images; {args.arch}; ours {precision}, batches of "
            f"{args.batch_size}; plain float32, batches of {plain.BATCH_SIZE}; {describe(device)}"
        )
        rows = [_row(stage, args.rounds, device) for stage in work.stages()]
        headers = ["stage", "ours", "plain", "ratio", "images/s", "peak memory", "of the floor"]
        print(format_table(headers, rows), flush=True)
        base_epochs = min(args.epochs, BASE_EPOCHS)
        methods = methods_table(work, args.rounds, base_epochs, args.quick)
        print(f"\n{methods}\n\n{_agreement(work)}", flush=True)
        if args.quick:
            print("quick: this shows that all of it runs; its times mean nothing")
        if args.compile:
            print(f"\n{_break_even(work)}", flush=True)


def _row(stage, rounds, device):
    pair = in_turn(stage.ours, stage.plain, rounds, device, once=stage.once)
    return [
        stage.name,
        f"{pair.ours:.3f} s",
        f"{pair.plain:.3f} s",
        f"{pair.ratio:.1f}",
        f"{stage.images / pair.ours:,.0f}",
        format_size(pair.peak),
        f"{stage.floor / pair.ours:.0%}",
    ]


def _agreement(work):
    """Test accuracy of the same training in both precisions."""
    found = {}
    for precision in (FLOAT32, BF16):
        recipe = replace(work.recipe, precision=precision)
        model = work.train_for(work.recipe.epochs, recipe)
        right = predict(model, work.test).argmax(1) == work.test.labels
        found[precision] = 100 * right.float().mean().item()
    return (
        f"test accuracy, epochs {work.recipe.epochs}: float32 {found[FLOAT32]:.2f}%, "
        f"bf16 {found[BF16]:.2f}%"
    )


def _break_even(work):
    """What torch.compile costs at first, and from which epoch on it has paid."""
    once, thrice = (
        timed(lambda n=n: work.train_for(n, work.recipe), work.device)[0] for n in (1, 3)
    )
    usual = (thrice - once) / 2  # of epochs that have all behind them that a run begins with
    return "\n".join(
        _compiled(work, usual, mode) for mode in MODES[: 2 if work.device.type == "cuda" else 1]
    )


def _compiled(work, usual, mode):
    model = copy.deepcopy(work.model)

    def prepare():
        model.compile_for(min(work.recipe.batch_size, len(work.train)))
        if mode != MODES[0]:
            model.network.compile(dynamic=False, mode=mode)

    with tempfile.TemporaryDirectory() as nothing_cached:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = nothing_cached
        first = timed(prepare, work.device)[0]
        first += timed(lambda: work.train_for(1, work.recipe, model), work.device)[0]
        later = timed(lambda: work.train_for(1, work.recipe, model), work.device)[0]
    saved = usual - later
    even = f"pays from epoch {1 + int((first - later) / saved)} on" if saved > 0 else "never pays"
    return (
        f"torch.compile, {mode}: {first - later:.1f} s, then {usual / later:.2f} times as fast: "
        f"{even}"
    )


def _walkthrough(args):
    """Seconds of the whole walkthrough on random images of BloodMNIST's shape."""
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
    how = "walkthrough, compiled" if args.compile else "walkthrough"
    return f"{how}, {shape} images of {side} px, {epochs} epochs: {seconds:.0f} s"


def _data_file(args, folder):
    """The data set as a .npz file with `--images` training images, again and again where fewer.

    The other splits have no more than that. Of another `--input_size` than their own they are
    enlarged or shrunk as they are: drawing SynthBloodMNIST large takes longer than all else.
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
        "--images", type=int, default=1000, help="to train on; of the others, at most"
    )
    parser.add_argument("--batch_size", type=int, default=plain.BATCH_SIZE, help="ours")
    parser.add_argument("--epochs", type=int, default=20, help="of the base model and Retrain")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=PRECISIONS, default=AUTO, help="ours")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", action="store_true", help="time torch.compile as well")
    parser.add_argument(
        "--walkthrough", action="store_true", help="time that alone, on BloodMNIST's shape"
    )
    parser.add_argument("--quick", action="store_true", help="only show that all of it runs")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    return args


if __name__ == "__main__":
    main()
