"""Any torchvision classifier, for grey or colour images of any size.

Stem. ResNets begin with a 7x7 convolution of stride 2 and a pooling of stride 2, made for 224 px:
a 28 px image is a 7x7 map before the first residual block. STEMS has the alternatives, and
SMALL_STEM is used below SMALL_BELOW px. It was chosen by this comparison at 28 px, ResNet-18 on one
CPU thread (`benchmarks/compare_stems.py --dataset SynthBloodMNIST --epochs 3 --seeds 1`):

    stem       val      test     time
    imagenet   95.00%   94.00%    1.0
    strided    97.00%   95.50%    2.4
    pooled     98.00%   96.12%    2.6
    full       98.00%   95.38%   10.2

`pooled` is the most accurate; `full`, the stem used for CIFAR, takes four times as long.
"""

import pickle
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from models.ensemble import Ensemble, shard_seed
from models.parallel import split_across_ranks
from models.stems import STEMS
from utils.data.npz import MAX_CLASSES
from utils.data.settings import MAX_SIDE, MIN_SIDE
from utils.io.files import suggest_name
from utils.runtime import processes
from utils.runtime.errors import UserError
from utils.train.compiling import check_compiles

ARCHITECTURES = torchvision.models.list_models(module=torchvision.models)

SMALL_STEM = "pooled"
SMALL_BELOW = 64  # pixels

HALF = (0.5, 0.5)  # mean and standard deviation that map pixels from [0, 1] to [-1, 1]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_SHARDS = 1_000_000  # a record with more is invalid
ENLARGED_SIZES = (32, 64, 128, 224, 299)  # pixels; for networks made for larger images


@dataclass(frozen=True)
class ModelSpec:
    """The specification of a classifier, as plain data.

    stem: a key of STEMS, None for architectures other than ResNets. network_size: height and width
    that images are enlarged to before the network, None to keep their size. shards: number of
    networks of this architecture, each trained on a part of the images (models.shards), 0 for one
    network trained on all. partition_seed: seed of the partition into shards. multi_label: whether
    the networks' probabilities are averaged per finding.
    """

    arch: str
    num_classes: int
    channels: int
    input_size: int
    stem: str | None = None
    pretrained: bool = False
    network_size: int | None = None
    shards: int = 0
    partition_seed: int = 0
    multi_label: bool = False


class Classifier(nn.Module):
    """A torchvision network for images as they are stored.

    forward: (N, C, H, W) uint8 -> logits (N, K) float. Pixels are normalised with the ImageNet
    statistics for a pretrained network, otherwise to [-1, 1]. Parameters of `network` have
    torchvision's names, after `shards.{number}.` if there are several networks. use_bf16: whether
    the forward pass uses bfloat16 (utils.train.precision.autocast_to). compiled_batch_size: images
    per batch of compiled training, None if the model is not compiled.
    """

    def __init__(self, network: nn.Module, spec: ModelSpec):
        super().__init__()
        self.network = network
        self.spec = spec
        self.use_bf16 = False
        self.compiled_batch_size = None
        mean, std = _pixel_statistics(spec)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, -1, 1, 1), persistent=False)

    @split_across_ranks
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of images (N, C, H, W) uint8."""
        pixels = (images / 255).to(self.mean.dtype)  # in place from here on, to save memory
        pixels = pixels.sub_(self.mean).div_(self.std)
        if self.spec.network_size:
            size = (self.spec.network_size,) * 2
            pixels = nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        # files are channels-last, which is the fastest format on a GPU, but not to train on a CPU
        on_gpu = pixels.is_cuda
        layout = torch.channels_last if on_gpu else torch.contiguous_format
        pixels = pixels.contiguous(memory_format=layout)
        with ExitStack() as stack:
            if self.compiled_batch_size and not (
                self.training and len(images) == self.compiled_batch_size
            ):
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if self.use_bf16:
                stack.enter_context(torch.autocast(pixels.device.type, torch.bfloat16))
            logits = self.network(pixels)
        return logits.float() if self.use_bf16 else logits

    def compile_for(self, batch_size: int) -> None:
        """Use torch.compile for training on batches of `batch_size` images.

        Other sizes and evaluation stay eager: each would need a compilation of its own. Copies of
        the model are not compiled, and with several processes nothing is. Raises UserError if
        torch.compile does not work on this machine.
        """
        if processes.world_size() > 1:
            return
        check_compiles(self.mean.device)
        self.network.compile(dynamic=False)
        self.compiled_batch_size = batch_size

    def to(self, *args: Any, **kwargs: Any) -> "Classifier":
        """Move the model like nn.Module.to; on a GPU weights become channels-last."""
        moved = super().to(*args, **kwargs)
        if moved.mean.is_cuda:
            moved.network.to(memory_format=torch.channels_last)
        return moved


def make_spec(
    arch: str,
    num_classes: int,
    channels: int,
    input_size: int,
    *,
    pretrained: bool = False,
    stem: str | None = None,
) -> ModelSpec:
    """Return the spec of a classifier for images of `input_size` px.

    stem: by default SMALL_STEM for ResNets below SMALL_BELOW px, otherwise the one of ImageNet,
    which pretrained weights need. Images that are too small for a network are enlarged to the
    first of ENLARGED_SIZES that it accepts. Raises UserError if there is no such classifier.
    """
    if arch not in ARCHITECTURES:
        raise UserError(f"--arch {arch}: torchvision has no such classifier{_nearest(arch)}")
    if _is_resnet(arch):
        small = input_size < SMALL_BELOW and not pretrained
        stem = stem or (SMALL_STEM if small else "imagenet")
    elif stem is not None:
        raise UserError(f"--stem is for ResNets only; {arch} has a stem of its own")
    if pretrained and stem not in (None, "imagenet"):
        raise UserError(f"--stem {stem} has no ImageNet weights: leave out --stem or --pretrained")
    for network_size in (None, *(size for size in ENLARGED_SIZES if size > input_size)):
        spec = ModelSpec(arch, num_classes, channels, input_size, stem, pretrained, network_size)
        if _works(spec):
            return spec
    raise UserError(
        f"--arch {arch} does not accept images of {input_size} px: use another --input_size"
    )


def check_spec(spec: ModelSpec) -> None:
    """Raise ValueError if a spec, read from a file, is not that of any classifier."""
    numbers = {
        "num_classes": (1, MAX_CLASSES),
        "channels": (1, 3),
        "input_size": (MIN_SIDE, MAX_SIDE),
        "shards": (0, MAX_SHARDS),
        "partition_seed": (0, 2**63 - 1),
    }
    for name, (lowest, highest) in numbers.items():
        value = getattr(spec, name)
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(f"no classifier has {name} {value!r}")
    choices = {
        "arch": ARCHITECTURES,
        "stem": STEMS if _is_resnet(str(spec.arch)) else (None,),
        "network_size": (None, *ENLARGED_SIZES),
        "pretrained": (False, True),
        "multi_label": (False, True),
    }
    for name, values in choices.items():
        value = getattr(spec, name)
        if not any(type(value) is type(known) and value == known for known in values):
            raise ValueError(f"no classifier has {name} {value!r}")


def sharded_spec(spec: ModelSpec, shards: int, partition_seed: int, multi_label: bool) -> ModelSpec:
    """Return the spec of an ensemble of `shards` networks of `spec`."""
    return replace(spec, shards=shards, partition_seed=partition_seed, multi_label=multi_label)


def single_network_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec of a single network of an ensemble."""
    return sharded_spec(spec, 0, 0, False)


def build_shard(
    spec: ModelSpec, number: int, *, seed: int | None = None, initial_weights: bool = True
) -> Classifier:
    """Return a Classifier of network `number` of build_model(spec, seed=seed) only."""
    own_seed = None if seed is None else shard_seed(seed, number)
    return build_model(single_network_spec(spec), seed=own_seed, initial_weights=initial_weights)


def build_model(
    spec: ModelSpec, *, seed: int | None = None, initial_weights: bool = True
) -> Classifier:
    """Return a Classifier with random weights from `seed`; ImageNet weights if pretrained.

    initial_weights: False if the weights of a checkpoint are loaded next, so that none are
    downloaded. Raises UserError if the ImageNet weights are not available.
    """
    if spec.shards:
        networks = [
            build_shard(spec, number, seed=seed, initial_weights=initial_weights).network
            for number in range(spec.shards)
        ]
        return Classifier(Ensemble(networks, spec.multi_label), spec)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        if spec.pretrained and initial_weights:
            return Classifier(_pretrained_network(spec), spec)
        network = torchvision.models.get_model(spec.arch, **_build_arguments(spec))
        _fit_first_convolution(network, spec)
    return Classifier(network, spec)


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _nearest(arch):
    return suggest_name(arch, ARCHITECTURES) or ": resnet18, resnet50, densenet121, vit_b_16, ..."


def _is_resnet(arch):
    return arch.startswith(("resnet", "resnext", "wide_resnet"))


def _pixel_statistics(spec):
    if not spec.pretrained:
        mean, std = HALF
        return torch.full((spec.channels,), mean), torch.full((spec.channels,), std)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (mean, std) if spec.channels == 3 else (mean.mean()[None], std.mean()[None])


def _build_arguments(spec):
    arguments = {"num_classes": spec.num_classes}
    if spec.arch.startswith("vit"):
        arguments["image_size"] = spec.network_size or spec.input_size
    if spec.arch in ("googlenet", "inception_v3"):  # extra heads: for ImageNet training only
        arguments |= {"aux_logits": False, "init_weights": True}
    return arguments


def _works(spec):
    """Return whether the network accepts this size in training mode; computes shapes only."""
    images = torch.empty(2, spec.channels, spec.input_size, spec.input_size, device="meta")
    try:
        build_meta_model(spec).train()(images)
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


def build_meta_model(spec: ModelSpec) -> Classifier:
    """Return the classifier of a spec on the meta device, without memory for its weights."""
    try:
        with torch.device("meta"):
            return build_model(spec, initial_weights=False)
    except NotImplementedError:  # RegNet computes its widths with tensors
        return build_model(spec, initial_weights=False).to("meta")


def _fit_first_convolution(network, spec):
    """Adapt the network to its channels and its stem; changed layers get random weights."""
    if _is_resnet(spec.arch):
        kernel, stride, pooled = STEMS[spec.stem]
        network.conv1 = _convolution_like(
            network.conv1, spec.channels, kernel_size=kernel, stride=stride, padding=kernel // 2
        )
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        if not pooled:
            network.maxpool = nn.Identity()
    elif spec.channels != 3:
        name, first = _first_convolution(network)
        network.set_submodule(name, _convolution_like(first, spec.channels))


def _first_convolution(network):
    return next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))


def _convolution_like(convolution, channels, **changes):
    keep = ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    arguments = {name: getattr(convolution, name) for name in keep} | changes
    return nn.Conv2d(channels, bias=convolution.bias is not None, **arguments)


def _pretrained_network(spec):
    """Return a network with ImageNet weights and a new head.

    For grey images the kernels of the first layer are summed over the colours.
    """
    weights = torchvision.models.get_model_weights(spec.arch).DEFAULT
    smallest = weights.meta["min_size"][0]
    if spec.arch.startswith("vit") and (spec.network_size or spec.input_size) != smallest:
        raise UserError(
            f"--pretrained {spec.arch} takes images of {smallest} px: use --input_size {smallest}"
        )
    try:
        network = torchvision.models.get_model(spec.arch, weights=weights)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"--pretrained: the ImageNet weights cannot be loaded ({error}): put {weights.url} "
            f"into {folder}, or leave out --pretrained"
        ) from error
    if spec.arch in ("googlenet", "inception_v3"):
        network.transform_input = network.aux_logits = False
        network.AuxLogits = network.aux1 = network.aux2 = None
    _replace_head(network, spec.num_classes)
    if spec.channels != 3:
        name, first = _first_convolution(network)
        grey = _convolution_like(first, spec.channels)
        with torch.no_grad():
            grey.weight.copy_(first.weight.sum(1, keepdim=True))
            if first.bias is not None:
                grey.bias.copy_(first.bias)
        network.set_submodule(name, grey)
    return network


def _replace_head(network, num_classes):
    """Replace the last layer with 1000 outputs: a Linear, in SqueezeNet a 1x1 convolution."""
    name, last = [
        (n, m)
        for n, m in network.named_modules()
        if getattr(m, "out_features", None) == 1000 or getattr(m, "out_channels", None) == 1000
    ][-1]
    if isinstance(last, nn.Linear):
        head = nn.Linear(last.in_features, num_classes)
    else:
        head = nn.Conv2d(last.in_channels, num_classes, kernel_size=1)
        network.num_classes = num_classes
    network.set_submodule(name, head)
