"""Constants of the evaluation that flags need; imports no numpy and no torch."""

MIN_SHADOW_MODELS = 4  # of U-LiRA: two that saw an image and two that did not
MEASURES = (  # the groups that --measures names
    "forgetting",
    "utility",
    "privacy",
    "inside",
    "distance",
    "safety",
    "cost",
)
