"""Pictures of data, training and results, and the interactive sample viewer."""
