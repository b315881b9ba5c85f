"""Measures of how well a model has forgotten, and their report."""
