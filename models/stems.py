"""The first layers of ResNets, by name; imports no torch, so that flags are parsed quickly."""

STEMS = {  # kernel size and stride of the first convolution, and whether a stride-2 pooling follows
    "imagenet": (7, 2, True),
    "strided": (3, 2, False),
    "pooled": (3, 1, True),
    "full": (3, 1, False),
}
