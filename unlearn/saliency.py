"""Weight saliency, SalUn's: how strongly each weight's change would move the forgetting loss.

Fan et al., "SalUn", ICLR 2024, eq. 3 and 4: saliency = |sum over the forget set of the gradient of
the loss|, at the base model's weights, in evaluation mode; the mask at threshold t keeps the
largest t of all weights, counted over the whole model.

The masks of one class are nested, so all of them are one number a weight: the percent at which
the weight enters, 1 to 100. One pass of counting gives them; each threshold is then one comparison.
"""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from models.checkpoint import load_tensors, save_tensors, weights_digest
from unlearn.engine.masking import WeightMask
from utils.data.prefetch import iter_batches
from utils.io.files import SALIENCY_FOLDER, check_id, check_inside
from utils.runtime.errors import UserError
from utils.train.prediction import PREDICTION_BATCH

FORMAT = "medical-unlearning-saliency-1"
PERCENTS = 100


def gradient_saliency(model, forget_set, request, batch_size=PREDICTION_BATCH):
    """|summed gradient of the forgetting loss| by parameter name, on the model's device.

    The images are gone through once. The model is left as it was.
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


def compute_percentiles(saliency):
    """The smallest whole percent at which each weight is inside the mask: uint8 by name.

    At p percent floor(N p / 100) of N weights are inside: the most salient, and among equals
    those that come first in the model. A saliency that is not finite raises UserError.
    """
    flat = torch.cat([part.detach().flatten() for part in saliency.values()])
    if not flat.isfinite().all():
        raise UserError("the gradients are not finite: the model's weights are broken")
    parts = _percentiles_of(flat).split([part.numel() for part in saliency.values()])
    return {
        name: part.reshape(saliency[name].shape) for name, part in zip(saliency, parts, strict=True)
    }


def mask_from_percentiles(percents, threshold):
    """The WeightMask at `threshold`, a share of all weights in whole percent, above 0, up to 1."""
    percent = threshold_to_percent(threshold)
    changeable = {name: part <= percent for name, part in percents.items()}
    return WeightMask(changeable, weights_digest(percents))


def make_mask(model, forget_set, request, threshold):
    """The WeightMask of a model at `threshold`, from its saliency, without any file."""
    return mask_from_percentiles(
        compute_percentiles(gradient_saliency(model, forget_set, request)), threshold
    )


def threshold_to_percent(threshold):
    """0.25 -> 25. Raises UserError outside (0, 1] and between whole percents."""
    percent = round(threshold * PERCENTS)
    if not 1 <= percent <= PERCENTS or abs(percent - threshold * PERCENTS) > 1e-6:
        raise UserError(
            f"--mask_thresh {threshold:g}: it must be above 0, at most 1, and a whole percent, "
            "as 0.5 or 0.25"
        )
    return percent


def saliency_path(model_id, request):
    """Where the saliency of a model for a request lies."""
    kind = "class_" if request.indices is None else ""
    name = check_id(f"{kind}{request.id_part()}", "the request")
    return check_inside(SALIENCY_FOLDER / check_id(model_id, "--model_id") / f"{name}.pt")


def saliency_origin(model, dataset, digest=None):
    """What a model's saliency maps depend on, as plain data: weights, their use, and the data.

    digest: of the model's weights, if it is known already.
    """
    digest = digest or weights_digest(model.network.state_dict())
    return origin_from_digests(digest, model.spec, dataset.train_digest())


def origin_from_digests(model_digest, spec, train_digest):
    """The same from what a record tells."""
    return {"model_digest": model_digest, "spec": asdict(spec), "train_digest": train_digest}


def save_percentiles(path, percents, request, origin):
    """Write one uint8 a weight, with the request and `saliency_origin` that they belong to."""
    content = {"format": FORMAT, "origin": origin | request.record(), "percents": percents}
    save_tensors(path, content | {"percents_digest": weights_digest(percents)})


def load_percentiles(path: Path, model, request, origin, command):
    """Read them back; raises UserError if they are missing, damaged or of another origin.

    command: what makes them, for the message.
    """
    if not path.exists():
        raise UserError(f"there is no mask {path}: make it with {command}")
    content = load_tensors(path, "saliency map")
    percents = content.get("percents")
    if content.get("format") != FORMAT or not isinstance(percents, dict):
        raise UserError(f"{path} is not a saliency map: make it anew with {command}")
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    found = {name: getattr(part, "shape", None) for name, part in percents.items()}
    if content.get("origin") != origin | request.record() or shapes != found:
        raise UserError(
            f"{path} was made for other weights or data: make it anew with {command} --overwrite"
        )
    if content.get("percents_digest") != weights_digest(percents):
        raise UserError(f"{path} is damaged or altered: make it anew with {command} --overwrite")
    return percents


def is_saliency(path, request, origin):
    """Whether a file holds the maps of this origin; None if it is missing or damaged."""
    try:
        content = load_tensors(path, "saliency map")
    except UserError:
        return None
    if content.get("format") != FORMAT:
        return None
    return content.get("origin") == origin | request.record()


def _inside(count):
    """How many of `count` weights are inside at each percent, (100,) int64."""
    return np.arange(1, PERCENTS + 1, dtype=np.int64) * count // PERCENTS


def _percentiles_of(values):
    """Percentiles of non-negative float32 `values` (N,): uint8, on the CPU.

    Both ways come to the same, on the CPU.
    """
    if not values.is_cpu:
        with suppress(torch.OutOfMemoryError):
            return _percentiles_by_sort(values).cpu()
    return torch.from_numpy(_percentiles_by_rank(values.cpu().numpy()))


def _percentiles_by_sort(values):
    """Percentiles of non-negative float32 `values` (N,): uint8, on the CPU.

    Integers are sorted, the bits of the floats, so that no number is like no other.
    """
    shares = torch.from_numpy(np.diff(_inside(len(values)), prepend=0))
    numbers = torch.arange(1, PERCENTS + 1, dtype=torch.uint8).repeat_interleave(shares)
    bits = values.view(torch.int32)
    order = bits.sort(descending=True, stable=True).indices
    return torch.empty_like(bits, dtype=torch.uint8).scatter_(0, order, numbers.to(order.device))


def _percentiles_by_rank(values):
    """Percentiles of non-negative float32 `values` (N,): uint8, on the CPU.

    Bits of non-negative floats order as the floats do, so that counting by the upper half of the
    bits tells the ranks that values of one half share. Only where a percent begins among them does
    their order matter; those few are sorted.
    """
    inside = _inside(len(values))
    keys = ~values.view(np.uint32)  # the largest first
    upper = (keys >> 16).astype(np.uint16)
    sizes = np.bincount(upper, minlength=2**16)
    ends = np.cumsum(sizes)
    first, last = _percent_of(ends - sizes, inside), _percent_of(ends - 1, inside)
    percents = np.where(first == last, first, 0).astype(np.uint8)[upper]
    unsure = np.flatnonzero(percents == 0)
    # key and position in one word: a plain sort does the work of a stable one
    words = (keys[unsure].astype(np.uint64) << np.uint64(32)) | np.arange(len(unsure), dtype="u8")
    words.sort()
    unsure = unsure[(words & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    halves, counts = np.unique(upper[unsure], return_counts=True)
    place = np.arange(len(unsure)) - np.repeat(np.cumsum(counts) - counts, counts)  # in its half
    ranks = np.repeat((ends - sizes)[halves], counts) + place
    # they ascend, so that each percent's share of them is found by where it ends
    shares = np.diff(np.searchsorted(ranks, inside), prepend=0, append=len(ranks))
    percents[unsure] = np.repeat(np.arange(1, PERCENTS + 2, dtype=np.uint8), shares)
    return percents


def _percent_of(ranks, inside):
    """The smallest whole percent at which more weights are inside than the rank, from 0."""
    return np.searchsorted(inside, ranks, side="right") + 1
