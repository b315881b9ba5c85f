"""What a model says of images before it is changed, as targets for a student to learn from."""

from utils.losses import probabilities
from utils.prediction import predict


def teacher_probabilities(model, image_set):
    """(M, K) probabilities that `model` gives an ImageSet, to be its labels (`with_labels`)."""
    multi_label = image_set.labels.ndim == 2
    return probabilities(predict(model, image_set), multi_label).clone()  # out of inference mode
