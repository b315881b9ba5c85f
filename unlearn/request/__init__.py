"""Deletion requests: what to forget, the files that list it, and the scoring of predictions."""
