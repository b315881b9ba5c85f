"""Scores predictions by what a deletion request is about.

In single-label data that is the class of an image. In multi-label data it is some of its findings:
for a request for classes those of them that the image has (all of them if it has none), and for a
request for single images every finding.
"""

import math

import torch
from torch.nn import functional


class RequestScoring:
    """The scores of a ForgetRequest, which provides `classes` and `indices`.

    In all methods logits are (B, K) and labels (B,), or (B, K) for multi-label data.
    """

    def correct_fraction(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return (B,) float: the fraction of scored predictions that are correct.

        In single-label data this is 0 or 1.
        """
        if labels.ndim == 1:
            return (logits.argmax(1) == labels).float()
        scored = self.scored_findings(labels)
        correct = (logits > 0) == labels.bool()
        return (correct & scored).sum(1).float() / scored.sum(1)

    def scored_logits(
        self, logits: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, C) and labels (B,) of the classification that the request is about.

        In single-label data these are the arguments. One finding of multi-label data becomes a
        classification into absent and present, with logits (0, z). Several findings become one into
        wrong and right, in float64: the probability of right is the geometric mean of the
        probabilities of the true values, exp(-losses).
        """
        if labels.ndim == 1:
            return logits, labels
        if len(self.classes) == 1:
            found = logits[:, self.classes[0]]
            return torch.stack([torch.zeros_like(found), found], 1), labels[:, self.classes[0]]
        loss = self._mean_loss(logits.double(), labels)
        loss = loss.clamp(min=torch.finfo(loss.dtype).tiny)  # a loss of 0 would make z infinite
        z = -loss - (-torch.expm1(-loss)).log()  # sigmoid(z) = exp(-loss)
        return torch.stack([torch.zeros_like(z), z], 1), torch.ones_like(labels[:, 0])

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return (B,) the loss of each image on what is to be forgotten.

        Cross entropy; in multi-label data the mean binary cross entropy of the scored findings,
        because an image's other findings are not to be forgotten.
        """
        if labels.ndim == 2 and len(self.classes) != 1:
            return self._mean_loss(logits, labels)
        return functional.cross_entropy(*self.scored_logits(logits, labels), reduction="none")

    def chance_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> float:
        """Return the loss of a uniform prediction."""
        choices = 2 if labels.ndim == 2 else logits.shape[1]
        return math.log(choices)

    def findings(self, num_classes: int) -> list[int]:
        """Return the indices of the findings that the request is about."""
        return list(self.classes or range(num_classes))

    def scored_findings(self, labels: torch.Tensor) -> torch.Tensor:
        """Return (B, K) bool: which findings of each image are scored. labels: (B, K)."""
        requested = torch.zeros_like(labels, dtype=torch.bool)
        for finding in self.findings(labels.shape[1]):  # a list would be copied to a GPU first
            requested[:, finding] = True
        if self.indices is not None:
            return requested
        present = requested & labels.bool()
        return torch.where(present.any(1, keepdim=True), present, requested)

    def _mean_loss(self, logits, labels):
        scored = self.scored_findings(labels)
        # logsigmoid stays exact for losses near 0, unlike binary_cross_entropy_with_logits
        losses = -functional.logsigmoid(torch.where(labels.bool(), logits, -logits))
        return torch.where(scored, losses, 0).sum(1) / scored.sum(1)
