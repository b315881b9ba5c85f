"""Files: written whole or not at all, locked, and checked before anything in them is used."""
