"""What a model is asked about the images of a forget request, and how well it knows the answer.

In single-label data an image's class. In multi-label data, where it counts for no more than the
request is about, some of its findings: of a request for classes those that it has of them (all of
them if it has none), of a request for single images all findings.
"""

import math

import torch
from torch.nn import functional


class RequestScoring:
    """The part of a ForgetRequest that looks at answers; it needs its `classes` and `indices`."""

    def correct_fraction(self, logits, labels):
        """(B,) float: the share of the questions asked of an image that are answered right.

        0 or 1 where there is one, as in single-label data.
        """
        if labels.ndim == 1:
            return (logits.argmax(1) == labels).float()
        asked = self.scored_findings(labels)
        right = (logits > 0) == labels.bool()
        return (right & asked).sum(1).float() / asked.sum(1)

    def scored_logits(self, logits, labels):
        """(B, K) logits and (B,) labels of a single choice: what the request is about.

        For one finding of multi-label data the two answers no and yes to it, as logits (0, z). For
        several the answers wrong and right, with the geometric mean of the probabilities of the
        right answers as that of right: exp(-losses), in float64.
        """
        if labels.ndim == 1:
            return logits, labels
        if len(self.classes) == 1:
            found = logits[:, self.classes[0]]
            return torch.stack([torch.zeros_like(found), found], 1), labels[:, self.classes[0]]
        loss = self._mean_loss(logits.double(), labels)
        loss = loss.clamp(min=torch.finfo(loss.dtype).tiny)  # a z of 0 loss would be infinite
        z = -loss - (-torch.expm1(-loss)).log()  # sigmoid(z) = exp(-loss)
        return torch.stack([torch.zeros_like(z), z], 1), torch.ones_like(labels[:, 0])

    def losses(self, logits, labels):
        """How little the model knows of each image what it is to forget: (B,).

        Cross entropy; for multi-label data the mean binary cross entropy of the questions asked,
        because the images' other findings are not to be forgotten.
        """
        if labels.ndim == 2 and len(self.classes) != 1:
            return self._mean_loss(logits, labels)
        return functional.cross_entropy(*self.scored_logits(logits, labels), reduction="none")

    def chance_loss(self, logits, labels):
        """The loss of a model that has no idea: of one that gives each answer the same chance."""
        answers = 2 if labels.ndim == 2 else logits.shape[1]
        return math.log(answers)

    def findings(self, num_classes):
        """Indices of the findings that the request is about."""
        return list(self.classes or range(num_classes))

    def scored_findings(self, labels):
        """(B, K) bool: which findings each image is asked about."""
        about = torch.zeros_like(labels, dtype=torch.bool)
        for finding in self.findings(labels.shape[1]):  # a list would be copied to a GPU first
            about[:, finding] = True
        if self.indices is not None:
            return about
        own = about & labels.bool()
        return torch.where(own.any(1, keepdim=True), own, about)

    def _mean_loss(self, logits, labels):
        asked = self.scored_findings(labels)
        # exact where nearly no loss is left, unlike the binary cross entropy of the library
        each = -functional.logsigmoid(torch.where(labels.bool(), logits, -logits))
        return torch.where(asked, each, 0).sum(1) / asked.sum(1)
