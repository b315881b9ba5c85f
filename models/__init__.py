"""Classifiers, and checkpoints that carry their history."""
