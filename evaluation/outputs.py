"""What a model says of every image of a data set: all that most measures need of it."""

from dataclasses import dataclass

import torch

from models.features import predict_with_features
from utils.errors import UserError
from utils.prediction import PREDICTION_BATCH


@dataclass(frozen=True)
class Outputs:
    """logits (N, K), features (N, D) and labels (N,) or (N, K) of N images, all on the CPU."""

    logits: torch.Tensor
    features: torch.Tensor
    labels: torch.Tensor

    def __len__(self):
        return len(self.labels)

    def subset(self, keep):
        """Those of `keep`, (N,) bool."""
        return Outputs(self.logits[keep], self.features[keep], self.labels[keep])

    def split(self, request):
        """(of images that the request covers, of the others)."""
        covered = request.members(self.labels)
        return self.subset(covered), self.subset(~covered)


def look_at(model, dataset, batch_size=PREDICTION_BATCH):
    """Outputs of `model` by split name; each image is gone through once.

    Raises UserError if they are not finite: such a model has nothing to be measured.
    """
    outputs = {}
    for name, split in dataset.splits.items():
        logits, features = predict_with_features(model, split, batch_size)
        if not logits.isfinite().all():
            raise UserError(f"the model is broken: its outputs for {name} images are not finite")
        outputs[name] = Outputs(logits, features, split.labels.cpu())
    return outputs
