"""An architecture beside torchvision's own that a test trains in a blink.

Scripts are tested with it: what a real network of some 200 layers takes longer for is none of
their doing. Real ones are trained in test_architectures.py, and from script to script in
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
    """All that unlearning has to do with: convolutions, normalisation, dropout, and a head."""
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
