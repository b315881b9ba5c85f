"""Where a model comes from: its parents, its Retrains, and whether its file is genuine."""
