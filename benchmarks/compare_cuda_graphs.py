"""Compare the training speed on a GPU: kernel by kernel, with CUDA graphs, and compiled.

    python benchmarks/compare_cuda_graphs.py --input_size 28 --images 12000 --batch_size 50
    python benchmarks/compare_cuda_graphs.py --input_size 224 --batch_size 256 --compile

Training uses CUDA graphs by default (utils/train/cuda_graphs.py). The last of three epochs counts:
in the first, kernels are chosen, captured or compiled. The images are random, in GPU memory.
"""

import argparse
import sys
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from models.architectures import build_model, make_spec
from utils.data.datasets import ImageSet
from utils.runtime.devices import describe, pick_device
from utils.text import format_table
from utils.train import cuda_graphs
from utils.train.precision import pick_precision
from utils.train.recipe import PRECISIONS, Recipe
from utils.train.training import TrainingRun

CLASSES, EPOCHS, NEVER = 8, 3, 10**9


def main() -> None:
    """Print the table of speeds, and whether graphs change the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input_size", type=int, default=28)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--batch_size", type=int, default=50)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    device = pick_device("auto")
    precision = pick_precision(args.precision, device)
    images = _images(args, device)
    print(
        f"{args.images:,} images of {args.input_size} px, {args.arch}, batches of "
        f"{args.batch_size}, {precision}; {describe(device)}"
    )
    modes = {"kernel by kernel": NEVER, "CUDA graphs": cuda_graphs.EAGER_BATCHES}
    rows, weights = [], []
    for mode, after in modes.items():
        with mock.patch.object(cuda_graphs, "EAGER_BATCHES", after):
            run, seconds = _trained(args, images, precision)
        weights.append(run.model.state_dict())
        rows.append(_row(mode, args.images, seconds))
    if args.compile:
        rows.append(_row("compiled", args.images, _trained(args, images, precision, True)[1]))
    print(format_table(["training", "images/s", "first epoch", "last epoch"], rows))
    same = all(torch.equal(values, weights[1][name]) for name, values in weights[0].items())
    print(f"the weights of the first two are {'' if same else 'not '}bitwise identical")


def _images(args, device):
    generator = torch.Generator().manual_seed(0)
    shape = (args.images, args.input_size, args.input_size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.arange(args.images) % CLASSES
    return ImageSet.from_tensors(pixels.permute(0, 3, 1, 2), labels).to(device)


def _trained(args, images, precision, compiled=False):
    """Return (TrainingRun, seconds of each epoch)."""
    model = build_model(make_spec(args.arch, CLASSES, 3, args.input_size), seed=1)
    recipe = Recipe(EPOCHS, 0.01, args.batch_size, precision=precision, compiled=compiled)
    began = time.perf_counter()
    run = TrainingRun(model.to(images.device), images, images.subset(slice(0, 0)), recipe)
    finished = [began]
    run.run(after_epoch=lambda _: finished.append(time.perf_counter()), show=False)
    return run, [later - earlier for earlier, later in zip(finished, finished[1:], strict=False)]


def _row(mode, count, seconds):
    return [mode, f"{count / seconds[-1]:,.0f}", f"{seconds[0]:.2f} s", f"{seconds[-1]:.2f} s"]


if __name__ == "__main__":
    main()
