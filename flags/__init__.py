"""The flags of the scripts, in groups. Imports no torch: flags are parsed before it is imported."""
