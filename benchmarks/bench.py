"""Each stage of the toolkit beside a plain loop that does the same, in turn, in one run.

    python benchmarks/bench.py                         28 px, on a laptop some minutes
    python benchmarks/bench.py --input_size 224 --images 12000 --batch_size 256 --walkthrough

The plain loop (plain.py) is a DataLoader with PIL transforms in batches of 50 in float32, `.item()`
at each step, evaluation image by image, and two argsorts for each threshold of a mask. A ratio is
the median over the rounds. The floor is the least time that the operations of the network take at
the rate of a large matrix product in the same precision, or the bytes at the rate of a copy.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import floors
import numpy as np
import plain
import torch

from models.architectures import build_model, make_spec
from unlearn.config import UnlearnConfig
from unlearn.methods import METHODS
from unlearn.request import ForgetRequest
from unlearn.saliency import entry_percents, gradient_saliency, mask_at, save_percents
from utils.devices import describe, pick_device
from utils.errors import UserError
from utils.loading import SYNTHETIC, load_dataset
from utils.npz import SPLITS
from utils.placement import Placement, write_size
from utils.precision import AUTO, BF16, FLOAT32, PRECISIONS, pick_precision
from utils.prediction import predict
from utils.tables import format_table
from utils.training import Recipe, TrainingRun

FORGOTTEN = 3  # a class
BLOOD = {"train": 11_959, "val": 1_712, "test": 3_421}  # images of BloodMNIST
BLOOD_SIZE, BLOOD_EPOCHS = 224, 50
SAMPLED_EVERY = 0.005  # seconds
QUICK = {"images": 64, "rounds": 1, "arch": "shufflenet_v2_x0_5", "epochs": 1}


@dataclass
class Stage:
    """ours, plain: functions of no arguments, or None. images: that it goes through.

    floor: seconds. once: it takes too long to be repeated.
    """

    name: str
    ours: object
    plain: object
    images: int
    floor: float
    once: bool = False


def main():
    args = _arguments()
    device = pick_device(args.device, args.threads)
    precision = pick_precision(args.precision, device)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path = _data_file(args, folder)
        bench = Bench(path, folder, args, device, precision)
        print(
            f"{args.dataset}, {bench.size} px, {len(bench.train):,} training and "
            f"{len(bench.test):,} test images; {args.arch}; ours {precision}, batches of "
            f"{args.batch_size}; plain float32, batches of {plain.BATCH_SIZE}; {describe(device)}"
        )
        rows = [
            _measured(stage, 1 if stage.once else args.rounds, device) for stage in bench.stages()
        ]
        headers = ["stage", "ours", "plain", "ratio", "images/s", "peak memory", "of the floor"]
        print(format_table(headers, rows), flush=True)
        print(f"\n{_methods_table(bench, args.quick)}", flush=True)
        print(f"\n{_agreement(bench)}", flush=True)
        if args.compile:
            print(f"\n{_break_even(bench)}", flush=True)
    if args.walkthrough:
        print(f"\n{_walkthrough(args)}")


class Bench:
    """What the stages work on, each from the same weights."""

    def __init__(self, path, folder, args, device, precision):
        self.path, self.folder, self.device = path, folder, device
        self.dataset = load_dataset(str(path)).to(device)
        self.plain_train, self.plain_test = plain.load(path)
        self.train, self.test = self.dataset.train, self.dataset.test
        self.size = self.dataset.input_size
        classes, channels = self.dataset.num_classes, self.dataset.channels
        self.model = build_model(make_spec(args.arch, classes, channels, self.size), seed=1)
        self.model.to(device)
        self.recipe = Recipe(args.epochs, 0.01, args.batch_size, precision=precision)
        self.request = ForgetRequest((min(FORGOTTEN, classes - 1),))

    def stages(self):
        model = self.model
        train, test = len(self.train), len(self.test)
        dtype = torch.bfloat16 if self.recipe.precision == BF16 else torch.float32
        learning = floors.matmul_rate(self.device, dtype)
        looking = floors.matmul_rate(self.device, torch.float32)
        images, _ = self.train.batch(slice(0, 8))
        step = floors.flops_an_image(copy.deepcopy(model).train(), images, backward=True)
        look = floors.flops_an_image(copy.deepcopy(model).eval(), images, backward=False)
        size = self.dataset.image_bytes
        return [
            Stage(
                "data load",
                lambda: load_dataset(str(self.path)).to(self.device),
                lambda: [len(part) for part in plain.load(self.path)],
                train + test,
                size / floors.copy_rate(torch.device("cpu")),
            ),
            Stage(
                "training epoch",
                lambda: self.train_for(1, self.recipe),
                lambda: plain.training_epoch(self.plain_copy(), self.plain_train, self.device),
                train,
                train * step / learning,
            ),
            Stage(
                "prediction",
                lambda: predict(model, self.test),
                lambda: plain.evaluate(self.plain_copy(), self.plain_test, self.device),
                test,
                test * look / looking,
            ),
            Stage(
                "all masks",
                self.masks,
                lambda: plain.all_masks(
                    self.plain_copy(),
                    self.plain_train,
                    self.dataset.num_classes,
                    self.device,
                    self.folder,
                ),
                train,
                train * step / looking,
                once=True,
            ),
        ]

    def plain_copy(self):
        return copy.deepcopy(self.model.network)

    def train_for(self, epochs, recipe, model=None):
        model = model or copy.deepcopy(self.model)
        nothing = self.train.subset(slice(0, 0))
        TrainingRun(model, self.train, nothing, replace(recipe, epochs=epochs)).run(show=False)
        return model

    def masks(self):
        for number in range(self.dataset.num_classes):
            request = ForgetRequest((number,))
            forget_set, _ = request.split(self.dataset, "train")
            percents = entry_percents(gradient_saliency(self.model, forget_set, request))
            save_percents(self.folder / f"class_{number}.pt", percents, request, {})
            for threshold in plain.THRESHOLDS:
                mask_at(percents, threshold)


def _measured(stage, rounds, device):
    """A row of the table; ours and plain in turn, so that both meet the same neighbours."""
    ours, others, peak = [], [], 0
    for _ in range(rounds):
        seconds, memory = _timed(stage.ours, device)
        ours.append(seconds)
        peak = max(peak, memory)
        others.append(_timed(stage.plain, device)[0])
    ratio = statistics.median(b / a for a, b in zip(ours, others, strict=True))
    seconds = statistics.median(ours)
    return [
        stage.name,
        f"{seconds:.3f} s",
        f"{statistics.median(others):.3f} s",
        f"{ratio:.1f}",
        f"{stage.images / seconds:,.0f}",
        write_size(peak),
        f"{stage.floor / seconds:.0%}",
    ]


def _timed(work, device):
    """(seconds, bytes that the process, or the GPU, held at most)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        floors.wait_for(device)
        began = time.perf_counter()
        work()
        floors.wait_for(device)
        return time.perf_counter() - began, torch.cuda.max_memory_allocated(device)
    with _Watch() as watch:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began, watch.look()


class _Watch:
    """The largest resident memory of this process while it is open; 0 where it is not told."""

    def __enter__(self):
        self.peak, self.ended = 0, threading.Event()
        self.thread = threading.Thread(target=self._go_on, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def look(self):
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
        except OSError:
            pages = 0
        self.peak = max(self.peak, pages * os.sysconf("SC_PAGE_SIZE"))
        return self.peak

    def _go_on(self):
        while not self.ended.wait(SAMPLED_EVERY):
            self.look()


def _methods_table(bench, quick):
    """Seconds of each method by its own defaults, and as a share of Retrain's."""
    forget_set, retain_set = bench.request.split(bench.dataset, "train")
    an_epoch = _timed(lambda: bench.train_for(1, bench.recipe), bench.device)[0]
    retrain = an_epoch * bench.recipe.epochs * len(retain_set) / len(bench.train)
    base = bench.train_for(1 if quick else 2, bench.recipe)
    rows = []
    for method in METHODS.values():
        if method.recipe is None or method.needs_shards or method.uses_mask:
            continue
        recipe = replace(method.recipe, precision=bench.recipe.precision)
        if not method.one_step:
            recipe = replace(recipe, epochs=1)
        options = {name: option.default for name, option in method.options.items()}
        config = UnlearnConfig(
            bench.request,
            recipe,
            options,
            retain_val=bench.request.split(bench.dataset, "val")[1],
            comparable_val=bench.request.split(bench.dataset, "val")[0],
            show=False,
        )
        model = copy.deepcopy(base)
        began = time.perf_counter()
        try:
            method.run(model, forget_set, retain_set, config)
        except UserError as error:  # a model that has learned little asks too much of some
            rows.append([method.id, "failed", "-", str(error)])
            continue
        floors.wait_for(bench.device)
        seconds = time.perf_counter() - began
        whole = seconds * (method.recipe.epochs or 1)
        share = f"{whole / retrain:.1%}"
        rows.append([method.id, f"{seconds:.2f} s", str(method.recipe.epochs or "-"), share])
    title = (
        f"methods, {len(forget_set):,} of {len(bench.train):,} images forgotten; Retrain is "
        f"{bench.recipe.epochs} epochs on the others, {retrain:.1f} s by the epoch above"
    )
    return f"{title}\n" + format_table(["method", "an epoch", "epochs", "of Retrain"], rows)


def _agreement(bench):
    """Test accuracy of the same training in both precisions."""
    found = {}
    for precision in (FLOAT32, BF16):
        recipe = replace(bench.recipe, precision=precision)
        model = bench.train_for(bench.recipe.epochs, recipe)
        right = predict(model, bench.test).argmax(1) == bench.test.labels
        found[precision] = 100 * right.float().mean().item()
    return (
        f"test accuracy after {bench.recipe.epochs} epochs: float32 {found[FLOAT32]:.2f}%, "
        f"bf16 {found[BF16]:.2f}%"
    )


def _break_even(bench):
    """What torch.compile costs at first, and from which epoch on it has paid."""
    usual = _timed(lambda: bench.train_for(1, bench.recipe), bench.device)[0]
    model = copy.deepcopy(bench.model)
    model.network.compile()
    first, later = (
        _timed(lambda: bench.train_for(1, bench.recipe, model), bench.device)[0] for _ in range(2)
    )
    saved = usual - later
    even = f"pays from epoch {1 + int((first - later) / saved)} on" if saved > 0 else "never pays"
    return f"torch.compile: {first - later:.1f} s, then {usual / later:.2f} times as fast: {even}"


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
        began = time.perf_counter()
        subprocess.run(list(map(str, command)), cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    shape = " / ".join(f"{count:,}" for count in sizes.values())
    return f"walkthrough, {shape} images of {side} px, {epochs} epochs: {seconds:.0f} s"


def _data_file(args, folder):
    """The data set as a .npz file with at most `--images` training images."""
    dataset = load_dataset(args.dataset, input_size=args.input_size, placement=Placement(workers=0))
    arrays = {}
    for split in SPLITS:
        part = dataset.splits[split]
        images = part.images[: args.images].permute(0, 2, 3, 1).squeeze(3).numpy()
        arrays[f"{split}_images"] = np.ascontiguousarray(images)
        arrays[f"{split}_labels"] = part.labels[: args.images].numpy()[:, None]
    np.savez_compressed(folder / "data.npz", **arrays)
    return folder / "data.npz"


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default=SYNTHETIC, help="single-label")
    parser.add_argument("--input_size", type=int)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--images", type=int, default=1000, help="of each split, at most")
    parser.add_argument("--batch_size", type=int, default=plain.BATCH_SIZE, help="ours")
    parser.add_argument("--epochs", type=int, default=20, help="of the base model and Retrain")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=PRECISIONS, default=AUTO, help="ours")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", action="store_true", help="time torch.compile as well")
    parser.add_argument("--walkthrough", action="store_true", help="time it on BloodMNIST's shape")
    parser.add_argument("--quick", action="store_true", help="only show that all of it runs")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    return args


if __name__ == "__main__":
    main()
