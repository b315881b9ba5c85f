"""Reading and writing files: atomic writes, locks, and checks of untrusted files."""
