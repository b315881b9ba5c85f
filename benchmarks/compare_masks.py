"""Time masks of one class for ten thresholds: one count against two argsorts per threshold.

    python benchmarks/compare_masks.py

Both start from the same saliency of a ResNet-18 (random numbers: only their order matters) and
write masks to disk. They are timed alternately.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from models.architectures import build_model, make_spec
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_saliency_map, save_saliency_map

THRESHOLDS = [percent / 100 for percent in range(10, 101, 10)]


def main() -> None:
    """Print the times, the number of differing weights and the sizes of the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    model = build_model(make_spec("resnet18", 8, 3, 28), seed=1)
    generator = torch.Generator().manual_seed(1)
    saliency = {
        name: torch.rand(parameter.shape, generator=generator)
        for name, parameter in model.named_parameters()
    }
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.pt"
        for _ in range(rounds):
            began = time.perf_counter()
            found = compute_saliency_map(saliency)
            save_saliency_map(one, found, ForgetRequest((3,)), {})
            middle = time.perf_counter()
            plain, plain_bytes = _two_argsorts_per_threshold(saliency, Path(folder))
            end = time.perf_counter()
            ratios.append((end - middle) / (middle - began))
            print(
                f"one count {middle - began:.2f} s, two argsorts per threshold {end - middle:.2f} s"
            )
        differing = sum(
            int((found.mask(threshold).changeable[name] != mask[name].bool()).sum())
            for threshold, mask in zip(THRESHOLDS, plain, strict=True)
            for name in mask
        )
        print(f"ratio of times {statistics.median(ratios):.1f} (median of {rounds})")
        print(f"weights on which the masks differ: {differing}")
        print(f"files: {one.stat().st_size / 1e6:.1f} MB, against {plain_bytes / 1e6:.0f} MB")


def _two_argsorts_per_threshold(saliency, folder):
    """Rank all weights for each threshold and save int64 masks, as SalUn does: (masks, bytes)."""
    masks, size = [], 0
    for threshold in THRESHOLDS:
        flat = -torch.cat([part.flatten() for part in saliency.values()])
        inside = round(threshold * 100) * len(flat) // 100
        ranks = torch.argsort(torch.argsort(flat, stable=True))
        flags = (ranks < inside).long().split([part.numel() for part in saliency.values()])
        mask = {
            name: part.reshape(saliency[name].shape)
            for name, part in zip(saliency, flags, strict=True)
        }
        path = folder / f"with_{threshold}.pt"
        torch.save(mask, path)
        masks.append(mask)
        size += path.stat().st_size
    return masks, size


if __name__ == "__main__":
    main()
