"""One run: what it is made of, its stages, and its results."""
