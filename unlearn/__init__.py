"""Unlearning: requests, methods, weight saliency, and the lineage of models."""
