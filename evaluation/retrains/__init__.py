"""What compares a model with several Retrains: relative distances, and the paired test."""
