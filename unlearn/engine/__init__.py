"""What runs a method: its settings, the loop over epochs, the mask and saved progress."""
