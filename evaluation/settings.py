"""Constants of the evaluation; imports no numpy and no torch, because flags need them."""

MIN_RETRAINS = 2  # that show how far Retrains are from each other
MIN_SHADOW_MODELS = 4  # of U-LiRA: two that saw an image and two that did not
NON_MEMBERS = ("val", "test")  # splits that attacks compare the forget set with
FOLDS = 5  # of cross-fitting in attacks, which therefore need as many images of each kind
