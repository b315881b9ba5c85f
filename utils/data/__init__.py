"""Data sets: found, checked, drawn, placed in memory, and read batch by batch."""
