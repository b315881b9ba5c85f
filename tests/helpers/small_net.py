"""A small architecture, registered with torchvision, that trains in well under a second.

Most tests of scripts use it. Real networks are trained in test_architectures.py, and in
test_walkthrough.py.
"""

SMALL_ARCH = "small_net"


def register():
    """Make SMALL_ARCH one of torchvision's classifiers; before models.architectures lists them."""
    import torchvision
    from torchvision.models import _api

    if SMALL_ARCH in _api.BUILTIN_MODELS:
        return

    def small_net(*, num_classes=1000, **_):
        return _network(num_classes)

    small_net.__module__ = f"{torchvision.models.__name__}.{SMALL_ARCH}"  # or it is not listed
    _api.register_model(SMALL_ARCH)(small_net)


def _network(num_classes):
    """What unlearning depends on: convolutions, batch normalisation, dropout and a linear head."""
    from torch import nn

    network, maps = nn.Sequential(), 3
    for number, (more, stride) in enumerate(((8, 1), (16, 2)), 1):
        network.add_module(f"conv{number}", nn.Conv2d(maps, more, 3, stride, 1, bias=False))
        network.add_module(f"norm{number}", nn.BatchNorm2d(more))
        network.add_module(f"relu{number}", nn.ReLU())
        maps = more
    network.add_module("pool", nn.AdaptiveAvgPool2d(4))
    network.add_module("flat", nn.Flatten())
    network.add_module("dropout", nn.Dropout(0.1))
    network.add_module("fc", nn.Linear(maps * 16, num_classes))
    return network
