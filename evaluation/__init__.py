"""How well a model has forgotten: one file a measure."""
