"""Data sets on the device, loops over batches, metrics and pictures. Imports no other package."""
