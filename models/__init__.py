"""Classifiers, and checkpoints with a record of their origin."""
