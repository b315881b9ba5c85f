"""Several methods and seeds on one request, measured and ranked."""
