"""Constants of data sets that flags need; imports no numpy and no torch."""

SYNTHETIC = "SynthBloodMNIST"  # the data set that is drawn, not downloaded
MIN_SIDE = 8  # pixels
MAX_SIDE = 8192
