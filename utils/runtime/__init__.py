"""The process: devices, ranks, signals, standard streams and error messages. Imports no torch."""
