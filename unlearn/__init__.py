"""Unlearning: the request, one file a method, weight saliency, and how well it was forgotten."""
