"""The process: devices, several processes, signals, terminals, and errors as one line."""
