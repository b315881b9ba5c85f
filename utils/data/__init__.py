"""Data sets: loading, validation, synthetic images, storage, and batches."""
