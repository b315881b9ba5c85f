"""Runs unlearning methods: settings, the loop over epochs, masks and saved progress."""
