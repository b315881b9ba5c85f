"""What a model says of images before it is changed, as targets for a student to learn from."""

from utils.train.losses import probabilities
from utils.train.prediction import predict


def teacher_logits(model, image_set):
    """(M, K) logits that `model` gives an ImageSet."""
    return predict(model, image_set).clone()  # out of inference mode


def teacher_probabilities(model, image_set, temperature=1.0):
    """(M, K) probabilities of the logits over `temperature`, to be labels (`with_labels`)."""
    multi_label = image_set.labels.ndim == 2
    return probabilities(teacher_logits(model, image_set) / temperature, multi_label)
