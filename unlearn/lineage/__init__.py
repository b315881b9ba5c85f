"""The origin of a model: its base model, its Retrains, and the verification of both."""
