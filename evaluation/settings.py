"""Constants of the evaluation that flags need; imports no numpy and no torch."""

MIN_SHADOW_MODELS = 4  # of U-LiRA: two that saw an image and two that did not
NON_MEMBERS = ("val", "test")  # splits that attacks compare the forget set with
