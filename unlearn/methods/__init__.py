"""One file per unlearning method; each ends in METHOD, which the registry finds."""
