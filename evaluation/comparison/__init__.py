"""Comparison of methods and seeds on one request."""
