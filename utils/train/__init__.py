"""Training and prediction: the loops, losses, precision, random numbers and CUDA graphs."""
