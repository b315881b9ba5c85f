"""Deletion requests: what to forget, the files that list it, and how answers are scored."""
