"""Weight saliency of SalUn: how strongly a change of each weight affects the forgetting loss.

Fan et al., "SalUn", ICLR 2024, eq. 3 and 4: saliency = |sum over the forget set of the gradient of
the loss|, at the base model's weights, in evaluation mode; the mask at threshold t contains the
most salient fraction t of all weights, counted over the whole model.

The masks of one request are nested, so one integer per weight describes all of them: its percentile
from the top, 1 for the most salient percent of the weights and 100 for the least salient. The mask
at a threshold of p percent contains the weights with percentiles up to p. A saliency map file holds
these percentiles.

A weight without a gradient has a saliency of exactly 0, as most weights of a 3x3 kernel that is
applied to a 1x1 map. A mask that contains all other weights restricts nothing but weights that
hardly move anyway. The percentiles do not show this, because equal saliencies have different ranks:
at a threshold of 50%, the mask of a model with 63% zeros contains all others, and 13% that are 0.
So the file also counts the zeros of each parameter. Files of earlier versions do not; `with_zeros`
counts them again.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.architectures import SMALL_BELOW, SMALL_STEM
from models.checkpoint import load_tensors, save_tensors, weights_digest
from unlearn.engine.masking import WeightMask
from unlearn.mask_threshold import PERCENTS, threshold_to_percent
from utils.data.prefetch import iter_batches
from utils.io.files import SALIENCY_FOLDER, check_id, check_inside
from utils.runtime.errors import UserError
from utils.train.prediction import PREDICTION_BATCH

if TYPE_CHECKING:
    from models.architectures import Classifier, ModelSpec
    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import ImageSet, MedicalDataset

FORMAT = "medical-unlearning-saliency-1"
MIN_THRESHOLD = 1 / PERCENTS


@dataclass(frozen=True)
class SaliencyMap:
    """The saliency of a model's weights for a request: their ranks, and how many have none.

    percentiles: by parameter name, uint8 from 1 to 100 of the parameter's shape. zeros: by
    parameter name, how many of its weights have a saliency of exactly 0; None if unknown.
    """

    percentiles: Mapping[str, torch.Tensor]
    zeros: Mapping[str, int] | None = None

    def weight_count(self) -> int:
        """Return the number of all weights."""
        return sum(part.numel() for part in self.percentiles.values())

    def zero_count(self) -> int | None:
        """Return how many weights have a saliency of exactly 0, None if unknown."""
        return None if self.zeros is None else sum(self.zeros.values())

    def full_threshold(self) -> float | None:
        """Return the lowest threshold whose mask contains every weight with a gradient.

        It is a whole percent in (0, 1], at which masks restrict nothing; None if unknown.
        """
        zeros, count = self.zero_count(), self.weight_count()
        if zeros is None:
            return None
        percent = int(np.searchsorted(_mask_sizes(count), count - zeros)) + 1
        return percent / PERCENTS

    def mask(self, threshold: float) -> WeightMask:
        """Return the mask at a threshold: the fraction of weights, a whole percent in (0, 1]."""
        percent, zeros = threshold_to_percent(threshold), self.zero_count()
        return WeightMask(
            {name: part <= percent for name, part in self.percentiles.items()},
            digest=weights_digest(self.percentiles),
            threshold=percent / PERCENTS,
            full_threshold=self.full_threshold(),
            zero_fraction=None if zeros is None else zeros / self.weight_count(),
        )


def gradient_saliency(
    model: "Classifier",
    forget_set: "ImageSet",
    request: "ForgetRequest",
    batch_size: int = PREDICTION_BATCH,
) -> dict[str, torch.Tensor]:
    """Return |summed gradient of the forgetting loss| by parameter name, on the model's device.

    The weights and the mode of the model are left unchanged; its gradients are cleared.
    """
    was_training = model.training
    model.eval().zero_grad()
    positions = torch.arange(len(forget_set), device=forget_set.device)
    for images, labels in iter_batches(forget_set, positions.split(batch_size)):
        request.losses(model(images), labels).sum().backward()
    saliency = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        saliency[name] = torch.zeros_like(parameter) if gradient is None else gradient.abs()
    model.zero_grad()
    model.train(was_training)
    return {name: part.detach() for name, part in saliency.items()}


def compute_percentiles(saliency: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the percentile of each weight from the top, uint8 from 1 to 100, by parameter name.

    At most floor(N p / 100) of N weights have percentiles up to p: the most salient ones; of equal
    weights those that come first in the model. Raises UserError if a saliency is not finite.
    """
    flat = torch.cat([part.detach().flatten() for part in saliency.values()])
    if not flat.isfinite().all():
        raise UserError(
            "the gradients are not finite: the model's weights are broken; train the model again"
        )
    parts = _percentiles_of(flat).split([part.numel() for part in saliency.values()])
    return {
        name: part.reshape(saliency[name].shape) for name, part in zip(saliency, parts, strict=True)
    }


def compute_saliency_map(saliency: Mapping[str, torch.Tensor]) -> SaliencyMap:
    """Return the map of saliencies by parameter name. Raises UserError if one is not finite."""
    return SaliencyMap(compute_percentiles(saliency), _count_zeros(saliency))


def with_zeros(
    saliency_map: SaliencyMap,
    model: "Classifier",
    forget_set: "ImageSet",
    request: "ForgetRequest",
    batch_size: int = PREDICTION_BATCH,
) -> SaliencyMap:
    """Return the map with its zeros, which are counted again if they are unknown.

    On another device or with another batch size, rounding may change a few of them.
    """
    if saliency_map.zeros is not None:
        return saliency_map
    zeros = _count_zeros(gradient_saliency(model, forget_set, request, batch_size))
    return replace(saliency_map, zeros=zeros)


def full_mask_warning(
    threshold: float | None, full_threshold: float | None, spec: "ModelSpec"
) -> str | None:
    """Return a warning if the mask at `threshold` contains every weight that has a gradient.

    full_threshold: see SaliencyMap; None if unknown. spec: of the model.
    """
    if threshold is None or full_threshold is None or threshold < full_threshold:
        return None
    advice = []
    if full_threshold > MIN_THRESHOLD:
        advice.append(f"a threshold below {full_threshold:g}")
    if spec.stem == "imagenet" and (spec.network_size or spec.input_size) < SMALL_BELOW:
        advice.append(f"a model with --stem {SMALL_STEM}")
    return (
        f"the mask at {threshold:g} contains every weight that has a gradient: it changes next to "
        "nothing; " + (f"choose {', or '.join(advice)}" if advice else "every other mask does, too")
    )


def compute_mask(
    model: "Classifier", forget_set: "ImageSet", request: "ForgetRequest", threshold: float
) -> WeightMask:
    """Return the mask of a model at a threshold, computed without any file."""
    return compute_saliency_map(gradient_saliency(model, forget_set, request)).mask(threshold)


def saliency_path(model_id: str, request: "ForgetRequest") -> Path:
    """Return the path of a model's saliency map for a request."""
    kind = "class_" if request.indices is None else ""
    name = check_id(f"{kind}{request.id_part()}", "the request")
    return check_inside(SALIENCY_FOLDER / check_id(model_id, "--model_id") / f"{name}.pt")


def saliency_origin(
    model: "Classifier", dataset: "MedicalDataset", digest: str | None = None
) -> dict:
    """Return what a model's saliency maps depend on besides the request, as plain data.

    digest: of the model's weights; computed if None.
    """
    digest = digest or weights_digest(model.network.state_dict())
    return origin_from_digests(digest, model.spec, dataset.train_digest())


def origin_from_digests(model_digest: str, spec: "ModelSpec", train_digest: str) -> dict:
    """Return `saliency_origin` from the digests in a model's record."""
    return {"model_digest": model_digest, "spec": asdict(spec), "train_digest": train_digest}


def save_saliency_map(
    path: Path, saliency_map: SaliencyMap, request: "ForgetRequest", origin: dict
) -> None:
    """Write a saliency map file: the map, and the request and origin that it belongs to."""
    percentiles = saliency_map.percentiles
    content = {"format": FORMAT, "origin": origin | request.record(), "percents": percentiles}
    if saliency_map.zeros is not None:
        content["zeros"] = dict(saliency_map.zeros)
    save_tensors(path, content | {"percents_digest": weights_digest(percentiles)})


def load_saliency_map(
    path: Path, model: "Classifier", request: "ForgetRequest", origin: dict, command: str
) -> SaliencyMap:
    """Read a saliency map file; its zeros are unknown if an earlier version wrote it.

    command: the command that creates the file, for messages. Raises UserError if the file is
    missing, damaged, or belongs to other weights, data or another request.
    """
    if not path.exists():
        raise UserError(f"there is no mask {path}: create it with {command}")
    content = load_tensors(path, "saliency map")
    percentiles = content.get("percents")
    if content.get("format") != FORMAT or not isinstance(percentiles, dict):
        raise UserError(f"{path} is not a saliency map: create it with {command}")
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    found = {name: getattr(part, "shape", None) for name, part in percentiles.items()}
    if content.get("origin") != origin | request.record() or shapes != found:
        raise UserError(
            f"{path} belongs to other weights or data: create it again with {command} --overwrite"
        )
    if not _is_undamaged(content):
        raise UserError(f"{path} is damaged or altered: create it again with {command} --overwrite")
    return SaliencyMap(percentiles, content.get("zeros"))


def matches_origin(path: Path, request: "ForgetRequest", origin: dict) -> bool | None:
    """Return whether a saliency map file is valid and belongs to this request and origin.

    False if it belongs to another; None if it is missing or damaged, so that it can be replaced.
    """
    try:
        content = load_tensors(path, "saliency map")
    except UserError:
        return None
    percentiles = content.get("percents")
    if content.get("format") != FORMAT or not isinstance(percentiles, dict):
        return None
    if not all(isinstance(k, str) and torch.is_tensor(part) for k, part in percentiles.items()):
        return None
    if content.get("origin") != origin | request.record():
        return False
    return True if _is_undamaged(content) else None


def _is_undamaged(content):
    """Whether the percentiles of a file have their digest, and its zeros, if any, can be true."""
    percentiles, zeros = content["percents"], content.get("zeros")
    if content.get("percents_digest") != weights_digest(percentiles):
        return False
    if zeros is None:
        return True
    return (
        isinstance(zeros, dict)
        and zeros.keys() == percentiles.keys()
        and all(type(n) is int and 0 <= n <= percentiles[k].numel() for k, n in zeros.items())
    )


def _count_zeros(saliency):
    return {name: part.numel() - int(part.count_nonzero()) for name, part in saliency.items()}


def _mask_sizes(count):
    """How many of `count` weights the mask at each percent contains: (100,) int64."""
    return np.arange(1, PERCENTS + 1, dtype=np.int64) * count // PERCENTS


def _percentiles_of(values):
    """Percentiles of non-negative float32 `values` (N,): uint8, on the CPU.

    A GPU sorts them if it has enough memory; the CPU ranks them faster without sorting all.
    """
    if not values.is_cpu:
        with suppress(torch.OutOfMemoryError):
            return _percentiles_by_sort(values).cpu()
    return torch.from_numpy(_percentiles_by_rank(values.cpu().numpy()))


def _percentiles_by_sort(values):
    """Percentiles of non-negative float32 `values` (N,): uint8, on their device.

    The bits of non-negative floats, read as integers, are in the same order as the floats.
    """
    sizes = torch.from_numpy(np.diff(_mask_sizes(len(values)), prepend=0))
    percentiles = torch.arange(1, PERCENTS + 1, dtype=torch.uint8).repeat_interleave(sizes)
    bits = values.view(torch.int32)
    order = bits.sort(descending=True, stable=True).indices
    return torch.empty_like(bits, dtype=torch.uint8).scatter_(
        0, order, percentiles.to(order.device)
    )


def _percentiles_by_rank(values):
    """Percentiles of non-negative float32 `values` (N,): uint8.

    The bits of non-negative floats, read as integers, are in the same order as the floats. So a
    histogram of the upper 16 bits gives the ranks between which all values with the same upper bits
    lie. Only values whose bin contains the boundary of a percentile have to be sorted.
    """
    mask_sizes = _mask_sizes(len(values))
    keys = ~values.view(np.uint32)  # inverted: the largest value first
    bins = (keys >> 16).astype(np.uint16)
    bin_sizes = np.bincount(bins, minlength=2**16)
    bin_ends = np.cumsum(bin_sizes)
    bin_starts = bin_ends - bin_sizes
    first = _percentile_of_rank(bin_starts, mask_sizes)
    last = _percentile_of_rank(bin_ends - 1, mask_sizes)
    percentiles = np.where(first == last, first, 0).astype(np.uint8)[bins]
    undecided = np.flatnonzero(percentiles == 0)
    # key and position in one integer: sorting these is a stable sort of the keys, but faster
    packed = (keys[undecided].astype(np.uint64) << np.uint64(32)) | np.arange(
        len(undecided), dtype="u8"
    )
    packed.sort()
    undecided = undecided[(packed & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    used_bins, counts = np.unique(bins[undecided], return_counts=True)
    offset = np.arange(len(undecided)) - np.repeat(np.cumsum(counts) - counts, counts)  # in the bin
    ranks = np.repeat(bin_starts[used_bins], counts) + offset
    # the ranks ascend, so each percentile is a run of them that ends at its mask size
    runs = np.diff(np.searchsorted(ranks, mask_sizes), prepend=0, append=len(ranks))
    percentiles[undecided] = np.repeat(np.arange(1, PERCENTS + 2, dtype=np.uint8), runs)
    return percentiles


def _percentile_of_rank(ranks, mask_sizes):
    """The smallest percent whose mask contains the weight of a rank (0-based)."""
    return np.searchsorted(mask_sizes, ranks, side="right") + 1
