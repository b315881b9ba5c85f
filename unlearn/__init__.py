"""Unlearning: the request, one file a method, weight saliency, and what comes from what."""
